//! A project's labelling config, of which the image and the tags that hold masks, boxes and texts are read.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::refusal::Refusal;

/// A tag that regions or texts belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// What kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The name of the image that it is about.
    pub to_name: String,
    /// Its labels.
    pub labels: Vec<String>,
}

/// Kinds of tags that are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Masks.
    Brush,
    /// Boxes.
    Rectangle,
    /// Outlines.
    Polygon,
}

impl Kind {
    /// The result's type, which is also the key of its labels.
    pub fn key(self) -> &'static str {
        match self {
            Self::Brush => "brushlabels",
            Self::Rectangle => "rectanglelabels",
            Self::Polygon => "polygonlabels",
        }
    }

    fn of(tag: &[u8]) -> Option<Self> {
        match tag {
            b"BrushLabels" => Some(Self::Brush),
            b"RectangleLabels" => Some(Self::Rectangle),
            b"PolygonLabels" => Some(Self::Polygon),
            _ => None,
        }
    }
}

/// What of a labelling config is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Name of the image tag.
    pub image: String,
    /// The task's key that holds the image: `image` of `$image`.
    pub key: String,
    /// Tags to fill.
    pub controls: Vec<Control>,
}

impl Config {
    /// From the project's XML.
    ///
    /// # Errors
    /// XML that cannot be read, no image, or nothing to fill.
    pub fn parse(xml: &str) -> Result<Self, Refusal> {
        let wrong = |what: String| Refusal::invalid(format!("the labelling config: {what}"));
        let mut reader = Reader::from_str(xml);
        let mut config = Self::default();
        loop {
            let event = reader.read_event().map_err(|error| wrong(error.to_string()))?;
            match &event {
                Event::Start(tag) | Event::Empty(tag) => config.add(tag),
                // Labels belong to the tag that they stand in.
                Event::Eof => break,
                _ => {}
            }
        }
        if config.key.is_empty() {
            return Err(wrong("no <Image name=\"..\" value=\"$key\"/>; without an image there is nothing to segment".into()));
        }
        config.controls.retain(|control| control.to_name == config.image || control.to_name.is_empty());
        if config.controls.is_empty() {
            return Err(wrong("no BrushLabels, RectangleLabels or PolygonLabels for the image; add one to see answers".into()));
        }
        Ok(config)
    }

    fn add(&mut self, tag: &BytesStart<'_>) {
        let value = |name: &str| {
            let attribute = tag.try_get_attribute(name).ok().flatten()?;
            Some(attribute.unescape_value().ok()?.into_owned())
        };
        let name = tag.local_name();
        if let Some(kind) = Kind::of(name.as_ref()) {
            let (name, to_name) = (value("name").unwrap_or_default(), value("toName").unwrap_or_default());
            self.controls.push(Control { kind, name, to_name, labels: Vec::new() });
        } else if name.as_ref() == b"Image" && self.key.is_empty() {
            self.image = value("name").unwrap_or_default();
            self.key = value("value").unwrap_or_default().trim_start_matches('$').to_owned();
        } else if name.as_ref() == b"Label"
            && let (Some(control), Some(label)) = (self.controls.last_mut(), value("value"))
        {
            control.labels.push(label);
        }
    }

    /// All labels, each once.
    pub fn labels(&self) -> Vec<String> {
        let mut labels: Vec<String> = Vec::new();
        for label in self.controls.iter().flat_map(|control| &control.labels) {
            if !labels.contains(label) {
                labels.push(label.clone());
            }
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_and_its_labels_are_found() {
        let config = Config::parse(
            "<View><Image name=\"img\" value=\"$photo\" zoom=\"true\"/><Header value=\"x\"/>\
             <BrushLabels name=\"b\" toName=\"img\"><Label value=\"the red circle\"/><Label value=\"A &amp; B\"/></BrushLabels>\
             <RectangleLabels name=\"r\" toName=\"img\"><Label value=\"A &amp; B\"/></RectangleLabels>\
             <RectangleLabels name=\"o\" toName=\"other\"><Label value=\"no\"/></RectangleLabels>\
             <TextArea name=\"prompt\" toName=\"img\"/></View>",
        )
        .unwrap();
        assert_eq!((config.image.as_str(), config.key.as_str()), ("img", "photo"));
        assert_eq!(config.labels(), ["the red circle", "A & B"]);
        let kinds: Vec<Kind> = config.controls.iter().map(|c| c.kind).collect();
        assert_eq!(kinds, [Kind::Brush, Kind::Rectangle]);
        for (xml, says) in
            [("", "no <Image"), ("<View><Image name=\"i\" value=\"$i\"/></View>", "no BrushLabels"), ("<View", "config")]
        {
            assert!(Config::parse(xml).unwrap_err().message.contains(says), "{xml}");
        }
    }
}
