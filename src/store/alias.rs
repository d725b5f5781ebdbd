//! Labels in the form in which a client encodes them, and the series that they mean: what a source sends
//! again with every scrape is found without being read.
//!
//! An alias is verified byte by byte, so that no two series are ever mistaken for each other. Aliases
//! are a cache: bounded, and gone with the head that they were found in.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use xxhash_rust::xxh3::xxh3_64;

use super::index::Hashed;
use crate::model::SeriesId;

/// Encoded labels that are remembered, which is enough for some 130,000 series.
const BYTES_MAX: usize = 32 << 20;

#[derive(Debug, Default)]
pub(crate) struct Aliases {
    by_hash: HashMap<u64, Alias, BuildHasherDefault<Hashed>>,
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Alias {
    series: SeriesId,
    start: u32,
    end: u32,
}

impl Aliases {
    pub(crate) fn find(&self, encoded: &[u8]) -> Option<SeriesId> {
        let alias = self.by_hash.get(&xxh3_64(encoded))?;
        let text = self.text.get(alias.start as usize..alias.end as usize)?;
        (text == encoded).then_some(alias.series)
    }

    /// Remembers as long as there is room. Of two with one hash the first stays.
    pub(crate) fn insert(&mut self, encoded: &[u8], series: SeriesId) {
        let start = self.text.len();
        if start + encoded.len() > BYTES_MAX {
            return;
        }
        self.by_hash.entry(xxh3_64(encoded)).or_insert_with(|| {
            self.text.extend_from_slice(encoded);
            Alias {
                series,
                start: start as u32,
                end: self.text.len() as u32,
            }
        });
    }

    /// Takes out what means one of these series, whose ids rise.
    pub(crate) fn forget(&mut self, series: &[SeriesId]) {
        self.by_hash
            .retain(|_, alias| series.binary_search(&alias.series).is_err());
    }

    /// Makes room for the aliases in use now, when all is taken.
    pub(crate) fn renew(&mut self) {
        if self.text.len() > BYTES_MAX / 10 * 9 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_found_by_its_bytes_alone_and_room_is_bounded() {
        let mut aliases = Aliases::default();
        aliases.insert(b"one", SeriesId(1));
        aliases.insert(b"one", SeriesId(2));
        aliases.insert(b"two", SeriesId(2));
        assert_eq!(aliases.find(b"one"), Some(SeriesId(1)));
        assert_eq!(aliases.find(b"two"), Some(SeriesId(2)));
        assert_eq!(aliases.find(b"three"), None);
        aliases.renew();
        assert_eq!(aliases.find(b"one"), Some(SeriesId(1)));
        aliases.forget(&[SeriesId(1), SeriesId(7)]);
        assert_eq!(aliases.find(b"one"), None);
        assert_eq!(aliases.find(b"two"), Some(SeriesId(2)));
        aliases.insert(b"one", SeriesId(9));
        assert_eq!(aliases.find(b"one"), Some(SeriesId(9)));
        let long = vec![0; BYTES_MAX / 16];
        for series in 0..40u32 {
            let mut encoded = long.clone();
            encoded.extend_from_slice(&series.to_le_bytes());
            aliases.insert(&encoded, SeriesId(series));
        }
        assert!(aliases.text.len() <= BYTES_MAX);
        aliases.renew();
        assert_eq!(aliases.find(b"one"), None);
    }
}
