//! `KeptImages`: encoded images by the hash of their file, the least recently used dropped first; bounded in bytes.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use crate::engine::Encoded;

/// An image file's SHA-256 in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageId(String);

impl ImageId {
    /// Of a file's bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut text = String::with_capacity(64);
        for byte in Sha256::digest(bytes) {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// From a request's path.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| Self(text.to_owned()))
    }

    /// 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An image behind the model's encoder.
#[derive(Debug)]
pub struct KeptImage {
    /// Whose.
    pub id: ImageId,
    /// What the model keeps of it.
    pub encoded: Encoded,
}

/// Bytes beside the features: the entry itself.
const ENTRY: usize = 512;

/// Encoded images, the least recently used dropped first.
#[derive(Debug)]
pub struct KeptImages {
    most_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<ImageId, (Arc<KeptImage>, u64)>,
    clock: u64,
    bytes: usize,
    evicted: u64,
}

/// How full the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupancy {
    /// Images.
    pub images: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Images dropped for others so far.
    pub evicted: u64,
}

impl KeptImages {
    /// An empty store of at most so many bytes.
    pub fn new(most_bytes: usize) -> Self {
        Self { most_bytes, state: Mutex::default() }
    }

    /// An image, which becomes the most recently used.
    pub fn get(&self, id: &ImageId) -> Option<Arc<KeptImage>> {
        let mut state = self.lock();
        state.clock += 1;
        let now = state.clock;
        let (image, used) = state.entries.get_mut(id)?;
        *used = now;
        Some(Arc::clone(image))
    }

    /// Keeps an image and drops others for it. One larger than the whole store is not kept.
    pub fn insert(&self, image: Arc<KeptImage>) {
        let cost = cost(&image);
        if cost > self.most_bytes {
            return;
        }
        let mut state = self.lock();
        state.clock += 1;
        let now = state.clock;
        if let Some((before, _)) = state.entries.insert(image.id.clone(), (image, now)) {
            state.bytes -= self::cost(&before);
        }
        state.bytes += cost;
        while state.bytes > self.most_bytes {
            let oldest = state.entries.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| id.clone());
            let Some((dropped, _)) = oldest.and_then(|id| state.entries.remove(&id)) else { break };
            state.bytes -= self::cost(&dropped);
            state.evicted += 1;
        }
    }

    /// Drops an image; whether it was there.
    pub fn remove(&self, id: &ImageId) -> bool {
        let mut state = self.lock();
        let Some((image, _)) = state.entries.remove(id) else { return false };
        state.bytes -= cost(&image);
        true
    }

    /// How full it is.
    pub fn occupancy(&self) -> Occupancy {
        let state = self.lock();
        Occupancy { images: state.entries.len(), bytes: state.bytes, evicted: state.evicted }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(image: &KeptImage) -> usize {
    image.encoded.bytes + ENTRY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: u8, bytes: usize) -> Arc<KeptImage> {
        let encoded = Encoded { width: 1, height: 1, bytes, features: Box::new(()) };
        Arc::new(KeptImage { id: ImageId::of(&[name]), encoded })
    }

    #[test]
    fn the_least_recently_used_goes_first_and_bytes_are_bounded() {
        let kept = KeptImages::new(3 * (100 + ENTRY));
        for name in 0..3 {
            kept.insert(image(name, 100));
        }
        assert!(kept.get(&ImageId::of(&[0])).is_some());
        kept.insert(image(3, 100));
        assert!(kept.get(&ImageId::of(&[1])).is_none(), "1 was used longest ago");
        assert!([0, 2, 3].iter().all(|name| kept.get(&ImageId::of(&[*name])).is_some()));
        assert_eq!(kept.occupancy(), Occupancy { images: 3, bytes: 3 * (100 + ENTRY), evicted: 1 });
        // The same image again replaces itself.
        kept.insert(image(3, 100));
        assert_eq!(kept.occupancy().images, 3);
        // A large one drops several, one that is too large none.
        kept.insert(image(4, 200 + ENTRY));
        assert_eq!(kept.occupancy(), Occupancy { images: 2, bytes: 3 * 100 + 3 * ENTRY, evicted: 3 });
        kept.insert(image(5, 1 << 20));
        assert!(kept.get(&ImageId::of(&[5])).is_none() && kept.occupancy().images == 2);
        assert!(kept.remove(&ImageId::of(&[4])) && !kept.remove(&ImageId::of(&[4])));
        assert_eq!(kept.occupancy().bytes, 100 + ENTRY);
    }

    #[test]
    fn ids_are_hashes_and_nothing_else() {
        let id = ImageId::of(b"abc");
        assert_eq!(id.as_str(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(ImageId::parse(id.as_str()), Some(id.clone()));
        for bad in ["", "../../etc/passwd", &id.as_str().to_uppercase(), &id.as_str()[1..]] {
            assert_eq!(ImageId::parse(bad), None, "{bad}");
        }
    }
}
