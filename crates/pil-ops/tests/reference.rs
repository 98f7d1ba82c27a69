//! Random images against values made with Pillow (`fixtures/make.py`).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use pil_ops::{Filter, Image, brightness, contrast, fill_polygon, gaussian_blur, resize, saturation};

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn numbers(text: &str) -> Vec<usize> {
    text.split(' ').map(|v| v.parse().unwrap()).collect()
}

#[test]
fn equals_pillow() {
    let text = include_str!("fixtures/cases.tsv");
    assert!(text.lines().count() >= 90);
    for (line, row) in text.lines().enumerate() {
        let f: Vec<&str> = row.split('\t').collect();
        let size = numbers(f[2]);
        let mut image = Image::new(size[0], size[1], size[2], bytes(f[3])).unwrap();
        let factor = || f[1].parse::<f32>().unwrap();
        let mut resized = |filter| {
            let to = numbers(f[1]);
            image = resize(&image, to[0], to[1], filter).unwrap();
        };
        match f[0] {
            "nearest" => resized(Filter::Nearest),
            "bilinear" => resized(Filter::Bilinear),
            "bicubic" => resized(Filter::Bicubic),
            "brightness" => brightness(&mut image, factor()),
            "contrast" => contrast(&mut image, factor()),
            "saturation" => saturation(&mut image, factor()),
            "blur" => image = gaussian_blur(&image, factor()).unwrap(),
            other => panic!("unknown operation {other}"),
        }
        assert_eq!(image.data(), bytes(f[4]), "line {line}: {} {} on {}", f[0], f[1], f[2]);
    }
}

#[test]
fn flips_and_refuses() {
    let mut image = Image::new(3, 1, 3, (1..=9).collect()).unwrap();
    pil_ops::flip_horizontal(&mut image);
    assert_eq!(image.data(), [7, 8, 9, 4, 5, 6, 1, 2, 3]);
    assert!(Image::new(3, 1, 3, vec![0; 8]).is_err());
    assert!(Image::new(0, 1, 3, vec![]).is_err());
    assert!(Image::new(1, 1, 4, vec![0; 4]).is_err());
    assert!(resize(&image, 0, 5, Filter::Bilinear).is_err());
    assert!(gaussian_blur(&image, f32::NAN).is_err());
}

#[test]
fn polygons_equal_pillow() {
    let text = include_str!("fixtures/polygons.tsv");
    assert!(text.lines().count() >= 400);
    for (line, row) in text.lines().enumerate() {
        let f: Vec<&str> = row.split('\t').collect();
        let size = numbers(f[0]);
        let point = |p: &str| p.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap();
        let points: Vec<(i32, i32)> = f[1].split(' ').map(point).collect();
        let mut image = Image::new(size[0], size[1], 1, vec![0; size[0] * size[1]]).unwrap();
        fill_polygon(&mut image, &points, 1).unwrap();
        let got: String = image
            .data()
            .chunks(4)
            .map(|c| {
                let bits = (0..4).fold(0, |sum, i| sum * 2 + c.get(i).copied().unwrap_or(0));
                char::from_digit(u32::from(bits), 16).unwrap()
            })
            .collect();
        assert_eq!(got, f[2], "line {line}: {points:?} on {size:?}");
    }
}
