//! Byte masks: their runs, 64 bytes at a time, and their transposition in tiles of 8 x 8.

/// Bytes per step of [`runs`].
const STEP: usize = 64;

/// Lengths of the runs of zero and non-zero bytes, beginning with zeros.
pub(crate) fn runs(bytes: &[u8]) -> Vec<u32> {
    let mut counts = Vec::new();
    let (mut start, mut previous) = (0usize, 0u64);
    let mut step = |at: usize, bits: u64, valid: u64| {
        let mut changes = (bits ^ (bits << 1 | previous)) & valid;
        previous = bits >> (STEP - 1);
        while changes != 0 {
            let change = at + changes.trailing_zeros() as usize;
            counts.push((change - start) as u32);
            start = change;
            changes &= changes - 1;
        }
    };
    let (whole, rest) = bytes.as_chunks::<STEP>();
    for (i, chunk) in whole.iter().enumerate() {
        step(i * STEP, nonzero(chunk), u64::MAX);
    }
    let mut last = [0; STEP];
    last[..rest.len()].copy_from_slice(rest);
    step(whole.len() * STEP, nonzero(&last), (1 << rest.len()) - 1);
    counts.push((bytes.len() - start) as u32);
    counts
}

/// A bit per byte: whether it is not 0.
fn nonzero(bytes: &[u8; STEP]) -> u64 {
    const LOW_7: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Brings bit 0 of byte k to bit 56 + k; no two of the products meet.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let (words, _) = bytes.as_chunks::<8>();
    let (mut any, mut all) = (0, u64::MAX);
    for word in words {
        let word = u64::from_le_bytes(*word);
        (any, all) = (any | word, all & word);
    }
    // Nearly every step of a mask lies inside a run.
    if any == 0 {
        return 0;
    }
    if all == ONES {
        return u64::MAX;
    }
    words.iter().enumerate().fold(0, |bits, (i, word)| {
        let word = u64::from_le_bytes(*word);
        let high = (((word & LOW_7) + LOW_7) | word) & !LOW_7;
        bits | ((high >> 7).wrapping_mul(GATHER) >> 56) << (8 * i)
    })
}

/// Writes `rows` x `columns` bytes, row after row, as `columns` x `rows`. Both slices hold `rows * columns` bytes.
pub(crate) fn transpose(from: &[u8], rows: usize, columns: usize, to: &mut [u8]) {
    const TILE: usize = 8;
    let (whole_rows, whole_columns) = (rows - rows % TILE, columns - columns % TILE);
    for x in (0..whole_columns).step_by(TILE) {
        for y in (0..whole_rows).step_by(TILE) {
            let mut tile: [u64; TILE] = std::array::from_fn(|i| {
                let at = (y + i) * columns + x;
                from[at..at + TILE].try_into().map_or(0, u64::from_le_bytes)
            });
            transpose_tile(&mut tile);
            for (i, column) in tile.iter().enumerate() {
                let at = (x + i) * rows + y;
                to[at..at + TILE].copy_from_slice(&column.to_le_bytes());
            }
        }
    }
    for x in 0..columns {
        let first = if x < whole_columns { whole_rows } else { 0 };
        for y in first..rows {
            to[x * rows + y] = from[y * columns + x];
        }
    }
}

/// Exchanges bytes in three rounds: neighbours, pairs and halves.
fn transpose_tile(tile: &mut [u64; 8]) {
    for (distance, mask) in [(1, 0x00ff_00ff_00ff_00ff), (2, 0x0000_ffff_0000_ffff), (4, 0x0000_0000_ffff_ffff)] {
        for i in (0..8).filter(|i| i & distance == 0) {
            let exchanged = (tile[i] >> (8 * distance) ^ tile[i + distance]) & mask;
            tile[i + distance] ^= exchanged;
            tile[i] ^= exchanged << (8 * distance);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a linear congruential generator; `dense` of 256 are foreground, some of them above 1.
    fn bytes(length: usize, seed: u32, dense: u32) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 24
        };
        (0..length).map(|_| if next() < dense { (next() % 3) as u8 + 1 } else { 0 }).collect()
    }

    #[test]
    fn runs_of_every_length_around_a_step() {
        for length in (0..200).chain([640, 4099]) {
            for (seed, dense) in [(1, 0), (2, 256), (3, 128), (4, 4), (5, 250)] {
                let bytes = bytes(length, seed + length as u32, dense);
                let counts = runs(&bytes);
                let back = counts.iter().enumerate().flat_map(|(i, &n)| std::iter::repeat_n(i % 2 == 1, n as usize));
                assert!(back.eq(bytes.iter().map(|&b| b != 0)), "{length} bytes, {dense} of 256");
                assert!(counts[1..].iter().take(counts.len().saturating_sub(1)).all(|&n| n > 0), "{length} bytes, {dense}");
            }
        }
    }

    #[test]
    fn transposition_of_whole_and_cut_tiles() {
        for (rows, columns) in [(1, 1), (8, 8), (7, 9), (16, 24), (17, 8), (3, 40), (33, 31)] {
            let from = bytes(rows * columns, 7, 128);
            let mut to = vec![9; from.len()];
            transpose(&from, rows, columns, &mut to);
            for y in 0..rows {
                for x in 0..columns {
                    assert_eq!(to[x * rows + y], from[y * columns + x], "{rows} x {columns} at {y}, {x}");
                }
            }
        }
    }
}
