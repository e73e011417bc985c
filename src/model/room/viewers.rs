//! Who is active: every viewer that pressed within the window, by the second (one is active for the window and up to a
//! second more). Exact up to [`MAX_VIEWERS`]. While so many are active, one that was not is not counted: no step of the
//! rules lies that high, and to drop the oldest in its place would take a queue beside the table.
//!
//! Whoever asks says how long ago it began, by a clock that does not leap: were it set back, everybody would stay active.

use super::ViewerKey;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

/// The most viewers that are counted.
pub const MAX_VIEWERS: u32 = 100_000;

/// The viewers of a room that pressed lately.
#[derive(Debug)]
pub struct ActiveViewers {
    window_seconds: u32,
    /// The second of each viewer's newest press; of some whose time has run out, too.
    pressed: HashMap<ViewerKey, u32, BuildHasherDefault<AsItIs>>,
    /// The seconds in which somebody's newest press lies, oldest first, and how many such there are.
    seconds: VecDeque<(u32, u32)>,
    active: u32,
}

impl ActiveViewers {
    /// Nobody yet; a press makes its viewer active for `window`.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        Self {
            window_seconds: u32::try_from(window.as_secs()).unwrap_or(u32::MAX),
            pressed: HashMap::default(),
            seconds: VecDeque::new(),
            active: 0,
        }
    }

    /// How many are active.
    pub fn active(&mut self, now: Duration) -> u32 {
        self.expire(now);
        self.active
    }

    /// Makes a viewer active; answers how many are.
    pub fn pressed(&mut self, viewer: ViewerKey, now: Duration) -> u32 {
        let second = self.expire(now);
        let before = self.pressed.get(&viewer).copied();
        if before == Some(second) {
            return self.active;
        }
        let active_since = before.and_then(|before| self.bucket(before));
        match active_since {
            Some(place) => self.seconds[place].1 -= 1,
            None if self.active >= MAX_VIEWERS => return self.active,
            None => self.active += 1,
        }
        match self.seconds.back_mut() {
            Some((newest, viewers)) if *newest == second => *viewers += 1,
            _ => self.seconds.push_back((second, 1)),
        }
        self.pressed.insert(viewer, second);
        self.forget(self.active as usize);
        self.active
    }

    /// The bytes that it holds, by the sizes of its tables.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // A slot has a byte of its own, and an eighth of them is kept free.
        let slots = (self.pressed.capacity() * 8 / 7).next_power_of_two();
        let table =
            if self.pressed.capacity() == 0 { 0 } else { slots * (size_of::<(ViewerKey, u32)>() + 1) };
        size_of::<Self>() + table + self.seconds.capacity() * size_of::<(u32, u32)>()
    }

    /// Drops whose time has run out; answers the second.
    fn expire(&mut self, now: Duration) -> u32 {
        let newest = self.seconds.back().map_or(0, |(second, _)| *second);
        let second = u32::try_from(now.as_secs()).unwrap_or(u32::MAX).max(newest);
        while let Some((oldest, viewers)) = self.seconds.front() {
            if second - oldest <= self.window_seconds {
                break;
            }
            self.active -= viewers;
            self.seconds.pop_front();
        }
        second
    }

    fn bucket(&self, second: u32) -> Option<usize> {
        self.seconds.binary_search_by_key(&second, |(second, _)| *second).ok()
    }

    /// Takes those whose time has run out from the table, once they are many: each is looked at a few times in all.
    fn forget(&mut self, active: usize) {
        if self.pressed.len() <= active + active / 4 + 64 {
            return;
        }
        let oldest = self.seconds.front().map_or(u32::MAX, |(second, _)| *second);
        self.pressed.retain(|_, second| *second >= oldest);
        self.pressed.shrink_to(2 * active);
    }
}

/// A key is a hash already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, byte| sum << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use super::{ActiveViewers, MAX_VIEWERS};
    use crate::model::room::ViewerKey;
    use proptest::prelude::{prop_assert_eq, proptest};
    use std::collections::HashMap;
    use std::time::Duration;

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn key(number: u64) -> ViewerKey {
        ViewerKey(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    #[test]
    fn above_the_most_nobody_is_added_until_somebody_goes() {
        let mut viewers = ActiveViewers::new(Duration::from_secs(300));
        for number in 0..u64::from(MAX_VIEWERS) + 10 {
            viewers.pressed(key(number), at(if number < 50_000 { 0 } else { 10 }));
        }
        assert_eq!(viewers.active(at(10)), MAX_VIEWERS);
        assert!(viewers.bytes() < 4_000_000, "{}", viewers.bytes());
        assert_eq!(viewers.active(at(301)), 50_000);
        assert_eq!(viewers.pressed(key(200_000), at(301)), 50_001);
        assert_eq!(viewers.active(at(700)), 0);
    }

    proptest! {
        #[test]
        fn active_is_who_pressed_within_the_window(
            presses in proptest::collection::vec((0u64..40, 0u64..30), 1..400)) {
            let mut viewers = ActiveViewers::new(Duration::from_secs(60));
            let (mut model, mut now) = (HashMap::new(), 0);
            for (viewer, later) in presses {
                now += later;
                model.insert(viewer, now);
                let active = model.values().filter(|pressed| now - **pressed <= 60).count();
                prop_assert_eq!(viewers.pressed(key(viewer), at(now)), active as u32);
            }
        }
    }
}
