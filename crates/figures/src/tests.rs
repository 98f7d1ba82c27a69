#![allow(clippy::unwrap_used, reason = "a test may panic")]

use image::RgbImage;

use super::*;

/// A shaded background with a disc and a square on it.
fn scene(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let (fx, fy) = (f64::from(x) / f64::from(width), f64::from(y) / f64::from(height));
        let checks = ((x / 8 + y / 8) % 2) as f64 * 14.0;
        if (fx - 0.3).hypot((fy - 0.5) * f64::from(height) / f64::from(width)) < 0.16 {
            return image::Rgb([210, 60, 50]);
        }
        if (0.6..0.85).contains(&fx) && (0.3..0.7).contains(&fy) {
            return image::Rgb([240, 200, 60]);
        }
        let shade = |base: f64| (base + 60.0 * fy + checks) as u8;
        image::Rgb([shade(90.0), shade(110.0), shade(120.0)])
    })
}

fn disc(width: u32, height: u32, shift: f64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let fx = f64::from(x) / f64::from(width) - shift;
            let fy = f64::from(y) / f64::from(height);
            let r = (fx - 0.3).hypot((fy - 0.5) * f64::from(height) / f64::from(width));
            bytes.push(u8::from(r < 0.16));
        }
    }
    bytes
}

#[test]
fn a_mask_must_fit() {
    assert!(Mask::new(2, 2, &[0; 4]).is_ok());
    let error = Mask::new(2, 2, &[0; 5]).unwrap_err().to_string();
    assert_eq!(error, "a mask of 2 x 2 needs 4 bytes of 0 or 1, but has 5");
    let mask = Mask::new(2, 2, &[0; 4]).unwrap();
    let error = overlay(&RgbImage::new(3, 2), &mask, colour::TRUTH).unwrap_err();
    assert_eq!(error.to_string(), "the mask is 2 x 2 but its image is 3 x 2; bring the mask to the image's size first");
}

#[test]
fn iou_counts_pixels() {
    let a = Mask::new(2, 2, &[1, 1, 0, 0]).unwrap();
    let b = Mask::new(2, 2, &[0, 1, 1, 0]).unwrap();
    let none = Mask::new(2, 2, &[0; 4]).unwrap();
    assert_eq!(a.iou(&b), Some(1.0 / 3.0));
    assert_eq!(none.iou(&none), Some(1.0));
    assert_eq!(a.iou(&none), Some(0.0));
    assert_eq!(a.iou(&Mask::new(4, 1, &[0; 4]).unwrap()), None);
}

/// A 5 x 5 block in a black 9 x 9 image: half a tint inside, its border in full colour, white around it, black beyond.
#[test]
fn overlay_tints_and_outlines() {
    let bytes: Vec<u8> = (0..81).map(|i| u8::from((2..7).contains(&(i % 9)) && (2..7).contains(&(i / 9)))).collect();
    let mask = Mask::new(9, 9, &bytes).unwrap();
    let out = overlay(&RgbImage::new(9, 9), &mask, [200, 100, 0]).unwrap();
    assert_eq!(out.get_pixel(4, 4).0, [100, 50, 0]);
    assert_eq!(out.get_pixel(2, 4).0, [200, 100, 0]);
    assert_eq!(out.get_pixel(6, 6).0, [200, 100, 0]);
    assert_eq!(out.get_pixel(1, 4).0, [225, 225, 225]);
    assert_eq!(out.get_pixel(1, 1).0, [0, 0, 0]);
    assert_eq!(out.get_pixel(0, 4).0, [0, 0, 0]);
}

#[test]
fn text_wraps_between_words_and_breaks_long_ones() {
    let room = |letters: u32| letters * TextSize::Normal.letter();
    assert_eq!(wrap("the red circle", TextSize::Normal, room(8), 9), ["the red", "circle"]);
    assert_eq!(wrap("  a   b ", TextSize::Normal, room(8), 9), ["a b"]);
    assert_eq!(wrap("abcdefghijk", TextSize::Normal, room(5), 9), ["abcd-", "efgh-", "ijk"]);
    assert_eq!(wrap("one two three four", TextSize::Normal, room(6), 2), ["one", "two..."]);
    assert!(wrap("", TextSize::Normal, 100, 3).is_empty());
}

#[test]
fn letters_outside_ascii_are_question_marks() {
    let draw = |text: &str| {
        let mut canvas = Canvas::new(60, 24, colour::PAPER);
        canvas.text(text, 0, 0, TextSize::Normal, colour::INK);
        canvas.into_image()
    };
    assert_eq!(draw("a\u{e9}\u{1f993}"), draw("a??"));
    assert_eq!(draw("a\tb"), draw("a?b"));
    assert_ne!(draw("a"), draw(" "));
}

#[test]
fn drawing_beyond_the_border_is_cut_off() {
    let mut canvas = Canvas::new(4, 4, [0; 3]);
    let rect = |x, y, width, height| Rect { x, y, width, height };
    canvas.fill(rect(-2, -2, 3, 3), [9; 3]);
    canvas.fill(rect(3, 3, u32::MAX, u32::MAX), [7; 3]);
    canvas.frame(rect(-5, 1, 2, 1), 3, [5; 3]);
    canvas.text("far away", -30, 2, TextSize::Heading, [1; 3]);
    canvas.label("x", 100, 100, TextSize::Small, [1; 3], [2; 3]);
    let image = Canvas::on(canvas.into_image()).into_image();
    assert_eq!(image.get_pixel(0, 0).0, [9; 3]);
    assert_eq!(image.get_pixel(3, 3).0, [7; 3]);
    assert_eq!(image.get_pixel(1, 0).0, [0; 3]);
}

#[test]
fn pages_of_any_images() {
    let page = Page::new("t", "");
    assert!(page.draw(&[]).unwrap().width() > 256);
    for (width, height) in [(1, 1), (3, 500), (640, 480), (100, 7)] {
        let image = scene(width, height);
        let bytes = vec![1; (width * height) as usize];
        let mask = Mask::new(width, height, &bytes).unwrap();
        let row = Row { image: &image, expression: "x", note: "", truth: None, prediction: mask };
        let drawn = page.draw(&[row, row]).unwrap();
        assert!(drawn.height() > 100);
        let _ = compose_tiles("tiles", &[Tile { image: &image, caption: "a" }; 5], 3, 64);
    }
    let _ = compose_tiles("", &[], 3, 64);
    let image = scene(4, 4);
    let mask = Mask::new(2, 2, &[0; 4]).unwrap();
    let row = Row { image: &image, expression: "x", note: "", truth: None, prediction: mask };
    assert!(matches!(page.draw(&[row]), Err(FigureError::MaskSize { .. })));
}

/// Writes samples to look at: `cargo test -p trainer picture -- --ignored`.
#[test]
#[ignore = "writes files to look at"]
fn sample() {
    let dir = std::env::temp_dir();
    let sizes = [(128, 128), (96, 128), (640, 480)];
    let scenes: Vec<RgbImage> = sizes.iter().map(|&(w, h)| scene(w, h)).collect();
    let truths: Vec<Vec<u8>> = sizes.iter().map(|&(w, h)| disc(w, h, 0.0)).collect();
    let said: Vec<Vec<u8>> = sizes.iter().zip([0.02, 0.06, 0.3]).map(|(&(w, h), s)| disc(w, h, s)).collect();
    let texts = [
        ("the red circle", "colour"),
        ("the large red dotted disc to the left of the yellow square, n\u{e4}he dem Rand", "relation"),
        ("left one", "place"),
    ];
    let rows: Vec<Row<'_>> = (0..3)
        .map(|i| Row {
            image: &scenes[i],
            expression: texts[i].0,
            note: texts[i].1,
            truth: Some(Mask::new(sizes[i].0, sizes[i].1, &truths[i]).unwrap()),
            prediction: Mask::new(sizes[i].0, sizes[i].1, &said[i]).unwrap(),
        })
        .collect();
    let page = Page::new("L-DIT, step 1200", "refcoco val | profile saymask | mIoU 62.4 | oIoU 58.8");
    page.draw(&rows).unwrap().save(dir.join("page.png")).unwrap();
    let mask = Mask::new(640, 480, &truths[2]).unwrap();
    overlay(&scenes[2], &mask, colour::PREDICTION).unwrap().save(dir.join("overlay.png")).unwrap();
    let tiles: Vec<Tile<'_>> = (0..3).map(|i| Tile { image: &scenes[i], caption: texts[i].0 }).collect();
    compose_tiles("Attention of layer 3", &tiles, 3, 200).save(dir.join("tiles.png")).unwrap();
}
