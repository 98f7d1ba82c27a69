//! A folder of mask images, identified by their names.

use std::path::{Path, PathBuf};

use crate::RefereeError;
use crate::mask::Levels;
use crate::results::{ImageKey, MaskSource, Record};
use crate::split::stem;

pub(crate) fn read(folder: &Path, levels: Levels) -> Result<(&'static str, Vec<Record>), RefereeError> {
    let mut paths = Vec::new();
    let entries = std::fs::read_dir(folder).map_err(|source| RefereeError::Read { path: folder.into(), source })?;
    for entry in entries {
        paths.push(entry.map_err(|source| RefereeError::Read { path: folder.into(), source })?.path());
    }
    paths.sort();
    let ending = |path: &PathBuf| path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let images: Vec<&PathBuf> = paths.iter().filter(|p| ["png", "jpg", "jpeg"].contains(&ending(p).as_str())).collect();
    let mut records = Vec::with_capacity(images.len());
    for path in images {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if stem(&name).ends_with("_vis") || stem(&name).ends_with("_masked_img") || stem(&name).contains("_masked_img_") {
            // LISA writes both; EVF-SAM the overlay alone.
            continue;
        }
        let lossy = ending(path) != "png";
        let Some((mut record, lisa)) = named(&name) else {
            let what = "a mask is named by its expression: SENT.png, REF_N.png, IMAGE_N.png or IMAGE_mask_N.jpg";
            return Err(RefereeError::Result { path: folder.into(), place: name, what: what.into() });
        };
        if lossy && !lisa {
            let what = "is a JPEG, which blurs masks: write them as PNG";
            return Err(RefereeError::Result { path: folder.into(), place: name, what: what.into() });
        }
        let levels = if lisa && lossy { Levels::Above50 } else { levels };
        record.mask = MaskSource::File(path.clone(), levels);
        records.push(record);
    }
    if records.is_empty() {
        let overlays = paths.iter().any(|p| stem(&p.to_string_lossy()).ends_with("_vis"));
        let what = if overlays {
            "holds overlays (NAME_vis.png), from which no mask can be read back: write the masks themselves, as PNG"
        } else {
            "holds no mask: expected PNG files, or a JSON or JSONL file instead of a folder"
        };
        return Err(RefereeError::format(folder, what));
    }
    let lisa = records.iter().any(|r| r.place.contains("_mask_"));
    Ok((if lisa { "LISA's masks per image" } else { "a folder of masks" }, records))
}

/// A record by its file's name, and whether the name is LISA's.
fn named(name: &str) -> Option<(Record, bool)> {
    let stem = stem(name);
    let mut record = Record::new(name.to_owned(), MaskSource::File(PathBuf::new(), Levels::Two));
    if let Ok(number) = stem.parse() {
        record.number = Some(number);
        return Some((record, false));
    }
    let (lisa, (front, nth)) = match stem.rsplit_once("_mask_") {
        Some(parts) => (true, parts),
        None => (false, stem.rsplit_once('_')?),
    };
    record.nth = Some(nth.parse().ok()?);
    match (lisa, front.parse::<i64>()) {
        (false, Ok(reference)) => record.ref_id = Some(reference),
        _ => record.image = Some(ImageKey::Stem(front.to_owned())),
    }
    Some((record, lisa))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_keys() {
        let of = |name: &str| named(name).map(|(r, lisa)| (r.number, r.ref_id, r.image, r.nth, lisa));
        let image = |stem: &str| Some(ImageKey::Stem(stem.to_owned()));
        assert_eq!(of("17.png"), Some((Some(17), None, None, None, false)));
        assert_eq!(of("17_2.png"), Some((None, Some(17), None, Some(2), false)));
        assert_eq!(
            of("COCO_train2014_000000000007_1.png"),
            Some((None, None, image("COCO_train2014_000000000007"), Some(1), false))
        );
        assert_eq!(of("COCO_7_mask_0.jpg"), Some((None, None, image("COCO_7"), Some(0), true)));
        assert_eq!(of("photo.png"), None);
    }
}
