//! A phone's photograph: stored on its side, seen upright.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use sam_vit::Naming;
use test_support::{Session, json};

use super::segment::toy_sam;

/// Twelve megapixels, 4032 x 3024 as stored, orientation 6: turned a quarter clockwise to be seen, so 3024 x 4032.
fn photograph(s: &Session) {
    let pixels = RgbImage::from_fn(4032, 3024, |x, y| image::Rgb([(x / 16) as u8, (y / 12) as u8, 90]));
    // Big-endian TIFF with one entry: tag 0x0112 (orientation), type SHORT, one value.
    let exif = [&b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"[..], &[0; 4]].concat();
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 80);
    encoder.set_exif_metadata(exif).unwrap();
    encoder.write_image(&pixels, 4032, 3024, ExtendedColorType::Rgb8).unwrap();
    std::fs::write(s.path("phone.jpg"), bytes).unwrap();
}

/// What was stored in the first row is seen in the last column: the overlay's corners say which way up it is.
fn is_upright(s: &Session, figure: &str) {
    let seen = image::open(s.path(figure)).unwrap().to_rgb8();
    assert!(seen.width() == 3024 && seen.height() >= 4032, "{figure}: {:?}", seen.dimensions());
    // Red grew along stored rows, which are seen as columns from top to bottom.
    let red = |x: u32, y: u32| i32::from(seen.get_pixel(x, y)[0]);
    assert!(red(1500, 3900) > red(1500, 100) + 60, "{figure}: {} above {}", red(1500, 100), red(1500, 3900));
}

#[test]
fn every_command_that_a_person_points_at_a_file_sees_it_upright() {
    let s = super::session();
    s.ok(&super::refs(&super::train(&[
        "run.name=first",
        "train.steps=2",
        "schedule.warmup_steps=1",
        "train.eval_every=never",
        "train.save_every=never",
    ])));
    photograph(&s);
    s.ok(&["predict", "phone.jpg", "left one", "--out", "found"]);
    let report = json(&s.path("found/phone.json"));
    assert_eq!((report["width"].as_u64(), report["height"].as_u64()), (Some(3024), Some(4032)));
    assert_eq!(report["predictions"][0]["segmentation"]["size"], serde_json::json!([4032, 3024]));
    is_upright(&s, "found/phone.png");

    toy_sam().export(Naming::Facebook).unwrap().save(s.path("toy.safetensors"), &[]).unwrap();
    // A point below 3024 exists only where the photograph stands.
    s.ok(&["segment", "phone.jpg", "--weights", "toy.safetensors", "--point", "1500,3500", "--out", "cut"]);
    assert_eq!(json(&s.path("cut/phone.json"))["height"].as_u64(), Some(4032));
    is_upright(&s, "cut/phone.png");

    s.ok(&["attend", "phone.jpg", "left one", "--out", "seen.png"]);
    // The image itself stands at the left of the page, higher than wide.
    let page = image::open(s.path("seen.png")).unwrap().to_rgb8();
    let paper = *page.get_pixel(1, 1);
    let filled = |x: u32, y: u32| page.get_pixel(x, y) != &paper;
    let column: Vec<u32> = (0..page.height()).filter(|y| filled(60, *y) && filled(70, *y)).collect();
    assert!(column.len() > 130, "the photograph is {} pixels high on the page", column.len());
}
