//! What the newest presses of a room were answered: at most [`RECENT_PRESSES`], none older than [`PRESS_AGE`]. Packed: 27
//! bytes a press in a ring, and beside it a table of places by key (4 bytes each, at most half full).

use super::{Answered, PRESS_AGE, Press, PressKey, RECENT_PRESSES};
use crate::model::timestamp::Timestamp;
use std::collections::VecDeque;

/// The bytes of a packed press.
pub const PACKED_BYTES: usize = 27;

/// Places are counted from the first press ever, modulo this; 0 in the table is none.
const PLACES: u32 = 1 << 31;

/// The newest presses of a room, oldest first, found by their keys.
#[derive(Debug, Default)]
pub struct RecentPresses {
    presses: VecDeque<[u8; PACKED_BYTES]>,
    /// The place of the oldest of them.
    first: u32,
    /// By a key's first bits: a place and 1. Empty, or a power of two long.
    table: Vec<u32>,
    /// Those of one second together, oldest first.
    seconds: VecDeque<Second>,
}

#[derive(Debug)]
struct Second {
    second: i64,
    /// The version of the first group.
    version: u64,
    presses: u32,
}

impl RecentPresses {
    /// What that press was answered, if it was taken lately.
    pub fn answered(&mut self, key: PressKey, now: Timestamp) -> Option<Answered> {
        self.expire(now);
        self.find(key)
            .and_then(|slot| self.presses.get(self.index(self.table[slot])))
            .map(|packed| unpack(packed).answered)
    }

    /// Adds a press that is not among them, of the group that has or gets that version.
    pub fn add(&mut self, press: Press, version: u64, now: Timestamp) {
        self.expire(now);
        if self.find(press.key).is_some() {
            return;
        }
        if self.presses.len() >= RECENT_PRESSES {
            self.drop_oldest();
        }
        if self.table.len() < 2 * (self.presses.len() + 1) {
            self.grow();
        }
        let place = self.first.wrapping_add(self.presses.len() as u32) % PLACES;
        self.presses.push_back(pack(&press));
        self.enter(press.key, place + 1);
        let second = now.millis().div_euclid(1_000);
        match self.seconds.back_mut() {
            // A clock that steps back makes none older than what came before.
            Some(newest) if newest.second >= second => newest.presses += 1,
            _ => self.seconds.push_back(Second { second, version, presses: 1 }),
        }
    }

    /// The version of the oldest group that may have one of them; none where there are none.
    #[must_use]
    pub fn from_version(&self) -> Option<u64> {
        self.seconds.front().map(|second| second.version)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.presses.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.presses.is_empty()
    }

    /// The bytes that it holds, by the sizes of its tables.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.presses.capacity() * PACKED_BYTES
            + self.table.capacity() * size_of::<u32>()
            + self.seconds.capacity() * size_of::<Second>()
    }

    /// Drops those that are too old.
    pub fn expire(&mut self, now: Timestamp) {
        let kept_from = now.before(PRESS_AGE).millis().div_euclid(1_000);
        while self.seconds.front().is_some_and(|oldest| oldest.second < kept_from) {
            self.drop_oldest();
        }
        if self.presses.is_empty() && !self.table.is_empty() {
            // A room that is quiet gives back what it took.
            *self = Self { first: self.first, ..Self::default() };
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.presses.front() else { return };
        if let Some(slot) = self.find(unpack(oldest).key) {
            self.clear(slot);
        }
        self.presses.pop_front();
        self.first = (self.first + 1) % PLACES;
        if let Some(second) = self.seconds.front_mut() {
            second.presses -= 1;
            if second.presses == 0 {
                self.seconds.pop_front();
            }
        }
    }

    /// Where in the ring a slot points.
    fn index(&self, slot: u32) -> usize {
        (slot.wrapping_sub(1).wrapping_sub(self.first) % PLACES) as usize
    }

    /// The slot that a key would have.
    fn home(&self, key: PressKey) -> usize {
        let bits = key.0[..8].iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        bits as usize & (self.table.len() - 1)
    }

    fn find(&self, key: PressKey) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        let mut slot = self.home(key);
        while self.table[slot] != 0 {
            if self.presses[self.index(self.table[slot])][..16] == key.0 {
                return Some(slot);
            }
            slot = (slot + 1) & (self.table.len() - 1);
        }
        None
    }

    fn enter(&mut self, key: PressKey, value: u32) {
        let mut slot = self.home(key);
        while self.table[slot] != 0 {
            slot = (slot + 1) & (self.table.len() - 1);
        }
        self.table[slot] = value;
    }

    /// Empties a slot and moves up what stood behind it for its sake.
    fn clear(&mut self, slot: usize) {
        let mask = self.table.len() - 1;
        let (mut hole, mut next) = (slot, (slot + 1) & mask);
        while self.table[next] != 0 {
            let home = self.home(unpack(&self.presses[self.index(self.table[next])]).key);
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.table[hole] = self.table[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.table[hole] = 0;
    }

    fn grow(&mut self) {
        self.table = vec![0; (2 * self.table.len()).max(64)];
        for index in 0..self.presses.len() {
            let key = unpack(&self.presses[index]).key;
            self.enter(key, self.first.wrapping_add(index as u32) % PLACES + 1);
        }
    }
}

/// A press in 27 bytes: key, event type and whether it made an effect, the count, both thresholds, viewers.
#[must_use]
pub fn pack(press: &Press) -> [u8; PACKED_BYTES] {
    let answered = &press.answered;
    let short = |number: u32| u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
    let mut packed = [0; PACKED_BYTES];
    packed[..16].copy_from_slice(&press.key.0);
    packed[16] = answered.event_type | u8::from(answered.effect_triggered) << 7;
    packed[17..19].copy_from_slice(&short(answered.current_count));
    packed[19..21].copy_from_slice(&short(answered.required_count));
    packed[21..23].copy_from_slice(&short(answered.next_threshold));
    packed[23..].copy_from_slice(&answered.viewer_count.to_be_bytes());
    packed
}

/// What [`pack`] packed.
#[must_use]
pub fn unpack(packed: &[u8; PACKED_BYTES]) -> Press {
    let number =
        |from: usize, to: usize| packed[from..to].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    let mut key = [0; 16];
    key.copy_from_slice(&packed[..16]);
    Press {
        key: PressKey(key),
        answered: Answered {
            event_type: packed[16] & 0x7F,
            effect_triggered: packed[16] & 0x80 != 0,
            current_count: number(17, 19),
            required_count: number(19, 21),
            next_threshold: number(21, 23),
            viewer_count: number(23, 27),
        },
    }
}

/// A group of presses as it is stored.
#[must_use]
pub fn pack_all(presses: &[Press]) -> Vec<u8> {
    presses.iter().flat_map(pack).collect()
}

/// What [`pack_all`] packed; none where these are no such bytes.
#[must_use]
pub fn unpack_all(packed: &[u8]) -> Option<Vec<Press>> {
    let (presses, rest) = packed.as_chunks::<PACKED_BYTES>();
    rest.is_empty().then(|| presses.iter().map(unpack).collect())
}

#[cfg(test)]
mod tests {
    use super::{RecentPresses, pack, pack_all, unpack, unpack_all};
    use crate::model::room::{ActiveViewers, Answered, Press, PressKey, RECENT_PRESSES, ViewerKey};
    use crate::model::timestamp::Timestamp;
    use proptest::prelude::{prop_assert_eq, proptest};
    use sha2::{Digest, Sha256};
    use std::collections::VecDeque;
    use std::time::Duration;

    fn press(number: u32) -> Press {
        let mut key = [0; 16];
        key.copy_from_slice(&Sha256::digest(number.to_be_bytes())[..16]);
        let answered = Answered {
            event_type: (number % 64) as u8,
            current_count: number % 100,
            required_count: 65_535,
            effect_triggered: number.is_multiple_of(5),
            viewer_count: number,
            next_threshold: 300,
        };
        Press { key: PressKey(key), answered }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + second * 1_000)
    }

    #[test]
    fn a_press_is_packed_and_unpacked() {
        let presses: Vec<Press> = (0..100).map(press).collect();
        presses.iter().for_each(|press| assert_eq!(unpack(&pack(press)), *press));
        assert_eq!(unpack_all(&pack_all(&presses)), Some(presses));
        assert_eq!(unpack_all(&[0; 28]), None);
    }

    #[test]
    fn a_room_of_10_000_viewers_and_100_000_presses_takes_under_7_mb_and_a_quiet_one_next_to_nothing() {
        let mut recent = RecentPresses::default();
        let mut viewers = ActiveViewers::new(Duration::from_secs(300));
        for number in 0..2 * RECENT_PRESSES as u32 {
            recent.add(press(number), u64::from(number), at(i64::from(number / 2_000)));
            viewers.pressed(
                ViewerKey(u64::from(number % 10_000).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
                Duration::from_secs(u64::from(number / 2_000)),
            );
        }
        assert_eq!(recent.len(), RECENT_PRESSES);
        let bytes = recent.bytes() + viewers.bytes();
        assert!(bytes < 7_000_000, "{bytes}");
        assert_eq!(recent.answered(press(99_999).key, at(100)), None);
        assert_eq!(recent.answered(press(100_000).key, at(100)), Some(press(100_000).answered));
        assert_eq!(recent.from_version(), Some(100_000));
        recent.expire(at(800));
        assert!(recent.is_empty() && recent.bytes() < 1_000 && recent.from_version().is_none());
    }

    proptest! {
        #[test]
        fn a_press_is_found_for_ten_minutes(steps in proptest::collection::vec((0u32..300, 0i64..20), 1..800)) {
            let mut recent = RecentPresses::default();
            let (mut model, mut now): (VecDeque<(i64, u32)>, i64) = (VecDeque::new(), 0);
            for (number, later) in steps {
                now += later;
                model.retain(|(taken, _)| now - taken <= 600);
                let known = model.iter().any(|(_, there)| *there == number);
                let found = recent.answered(press(number).key, at(now));
                prop_assert_eq!(found, known.then(|| press(number).answered));
                if !known {
                    model.push_back((now, number));
                    recent.add(press(number), 1, at(now));
                }
                prop_assert_eq!(recent.len(), model.len());
            }
        }
    }
}
