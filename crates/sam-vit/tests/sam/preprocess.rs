//! Preprocessing against Pillow and numpy (`fixtures/make_preprocess.py`).

use sam_vit::preprocess;

use crate::toy::test_image;

fn fnv(data: &[u8]) -> u64 {
    data.iter().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01B3))
}

#[test]
fn equals_pillow_in_every_bit() {
    let text = include_str!("../fixtures/preprocess.tsv");
    assert!(text.lines().count() >= 14);
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let size: Vec<usize> = fields[..5].iter().map(|f| f.parse().unwrap()).collect();
        let (values, letterbox) = preprocess(&test_image(size[0], size[1]), size[2]).unwrap();
        assert_eq!((letterbox.height, letterbox.width), (size[3], size[4]), "{}", fields[..3].join(" x "));
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        if let Some(hex) = fields.get(6) {
            let want: Vec<f32> = (0..hex.len() / 8)
                .map(|i| f32::from_bits(u32::from_str_radix(&hex[8 * i..8 * i + 8], 16).unwrap().swap_bytes()))
                .collect();
            assert_eq!(values, want, "{}", fields[..3].join(" x "));
        }
        assert_eq!(format!("{:016x}", fnv(&bytes)), fields[5], "{}", fields[..3].join(" x "));
    }
}
