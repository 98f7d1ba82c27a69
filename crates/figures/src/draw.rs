//! Rectangles, images and text on a canvas.

use image::RgbImage;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// Red, green, blue.
pub type Rgb = [u8; 3];

/// A rectangle in pixels. It may reach beyond the canvas; only what lies inside is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: i64,
    /// Upper edge.
    pub y: i64,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// Size and weight of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextSize {
    /// 16 pixels high.
    Small,
    /// 16 pixels high, bold.
    SmallBold,
    /// 20 pixels high.
    Normal,
    /// 20 pixels high, bold.
    Bold,
    /// 24 pixels high, bold.
    Heading,
}

impl TextSize {
    fn font(self) -> (FontWeight, RasterHeight) {
        match self {
            Self::Small => (FontWeight::Regular, RasterHeight::Size16),
            Self::SmallBold => (FontWeight::Bold, RasterHeight::Size16),
            Self::Normal => (FontWeight::Regular, RasterHeight::Size20),
            Self::Bold => (FontWeight::Bold, RasterHeight::Size20),
            Self::Heading => (FontWeight::Bold, RasterHeight::Size24),
        }
    }

    /// Height of a line in pixels.
    #[must_use]
    pub fn height(self) -> u32 {
        self.font().1.val() as u32
    }

    /// Width of a letter in pixels; all are equally wide.
    #[must_use]
    pub fn letter(self) -> u32 {
        let (weight, height) = self.font();
        get_raster_width(weight, height) as u32
    }
}

/// Width of one line of text in pixels.
#[must_use]
pub fn text_width(text: &str, size: TextSize) -> u32 {
    (text.chars().count() as u32).saturating_mul(size.letter())
}

/// Breaks text into lines of at most `width` pixels: between words where possible, inside a word that is too long. With more
/// than `max_lines` lines the last one ends in "...".
#[must_use]
pub fn wrap(text: &str, size: TextSize, width: u32, max_lines: usize) -> Vec<String> {
    let room = (width / size.letter()).max(4) as usize;
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + word.len() > room {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        while word.len() > room {
            let rest = word.split_off(room - 1);
            lines.push(word.into_iter().chain(['-']).collect());
            word = rest;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        used += word.len();
        line.extend(word);
    }
    if used > 0 {
        lines.push(line);
    }
    if lines.len() > max_lines {
        lines.truncate(max_lines);
        if let Some(last) = lines.last_mut() {
            let keep: String = last.chars().take(room - 3).collect();
            *last = format!("{}...", keep.trim_end());
        }
    }
    lines
}

/// Mixes a colour into a pixel.
pub(crate) fn mix(pixel: &mut Rgb, colour: Rgb, alpha: u8) {
    let alpha = u32::from(alpha);
    for (old, new) in pixel.iter_mut().zip(colour) {
        let mixed = u32::from(*old) * (255 - alpha) + u32::from(new) * alpha;
        *old = ((mixed + 127) / 255) as u8;
    }
}

/// A figure being drawn.
#[derive(Debug, Clone)]
pub struct Canvas {
    image: RgbImage,
}

impl Canvas {
    /// A canvas of one colour.
    #[must_use]
    pub fn new(width: u32, height: u32, colour: Rgb) -> Self {
        Self { image: RgbImage::from_pixel(width, height, image::Rgb(colour)) }
    }

    /// Draws on an existing figure.
    #[must_use]
    pub fn on(image: RgbImage) -> Self {
        Self { image }
    }

    /// The figure.
    #[must_use]
    pub fn into_image(self) -> RgbImage {
        self.image
    }

    /// Width and height in pixels.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        self.image.dimensions()
    }

    /// Mixes `colour` into a pixel; `alpha` from 0 (keep) to 255 (replace).
    pub fn blend(&mut self, x: i64, y: i64, colour: Rgb, alpha: u8) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else {
            return;
        };
        let Some(pixel) = self.image.get_pixel_mut_checked(x, y) else {
            return;
        };
        mix(&mut pixel.0, colour, alpha);
    }

    /// The pixels of a row, from the left; none where there is no such row.
    pub(crate) fn row_mut(&mut self, y: u32) -> impl Iterator<Item = &mut Rgb> {
        let width = self.image.width() as usize * 3;
        let from = (y as usize).saturating_mul(width);
        let row = self.image.as_flat_samples_mut().samples.get_mut(from..from.saturating_add(width)).unwrap_or_default();
        row.as_chunks_mut().0.iter_mut()
    }

    /// Fills a rectangle.
    pub fn fill(&mut self, rect: Rect, colour: Rgb) {
        self.tint(rect, colour, 255);
    }

    /// Mixes `colour` into a rectangle; `alpha` from 0 (keep) to 255 (replace).
    pub fn tint(&mut self, rect: Rect, colour: Rgb, alpha: u8) {
        let (width, height) = self.size();
        let clip = |from: i64, length: u32, limit: u32| {
            let to = from.saturating_add(i64::from(length));
            from.clamp(0, i64::from(limit))..to.clamp(0, i64::from(limit))
        };
        for y in clip(rect.y, rect.height, height) {
            for x in clip(rect.x, rect.width, width) {
                self.blend(x, y, colour, alpha);
            }
        }
    }

    /// Draws a frame of the given thickness just inside a rectangle.
    pub fn frame(&mut self, rect: Rect, thickness: u32, colour: Rgb) {
        let t = thickness.min(rect.width).min(rect.height);
        let edge = |x: i64, y: i64, width: u32, height: u32| Rect { x, y, width, height };
        let (right, bottom) = (rect.x + i64::from(rect.width - t), rect.y + i64::from(rect.height - t));
        let side = rect.height.saturating_sub(2 * t);
        self.fill(edge(rect.x, rect.y, rect.width, t), colour);
        self.fill(edge(rect.x, bottom, rect.width, t), colour);
        self.fill(edge(rect.x, rect.y + i64::from(t), t, side), colour);
        self.fill(edge(right, rect.y + i64::from(t), t, side), colour);
    }

    /// Puts a figure with its upper left corner at `(x, y)`.
    pub fn paste(&mut self, image: &RgbImage, x: i64, y: i64) {
        image::imageops::replace(&mut self.image, image, x, y);
    }

    /// Writes one line of text with its upper left corner at `(x, y)`; letters that are not ASCII become `?`.
    pub fn text(&mut self, text: &str, x: i64, y: i64, size: TextSize, colour: Rgb) {
        let (weight, height) = size.font();
        let mut left = x;
        for letter in text.chars() {
            let drawn = if letter == ' ' || letter.is_ascii_graphic() { letter } else { '?' };
            if let Some(raster) = get_raster(drawn, weight, height) {
                for (row, line) in raster.rows().enumerate() {
                    for (column, &alpha) in line.iter().enumerate() {
                        self.blend(left + column as i64, y + row as i64, colour, alpha);
                    }
                }
            }
            left += i64::from(size.letter());
        }
    }

    /// Writes lines of text below each other.
    pub fn lines<S: AsRef<str>>(&mut self, lines: &[S], x: i64, y: i64, size: TextSize, colour: Rgb) {
        for (index, line) in lines.iter().enumerate() {
            let down = index as i64 * i64::from(size.height() + size.height() / 4);
            self.text(line.as_ref(), x, y + down, size, colour);
        }
    }

    /// Writes text on a filled label with its upper left corner at `(x, y)`. Returns the label's place.
    pub fn label(&mut self, text: &str, x: i64, y: i64, size: TextSize, ink: Rgb, ground: Rgb) -> Rect {
        let rect = Rect { x, y, width: text_width(text, size) + 12, height: size.height() + 6 };
        self.fill(rect, ground);
        self.text(text, x + 6, y + 3, size, ink);
        rect
    }
}
