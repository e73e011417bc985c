//! The counts of a room: what a press does to them, and nothing else.

use super::rules::{EventTypes, Rules};
use super::{Answered, Effect};

/// How many viewers are active, before a press and with the one that pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// What the press is measured by: what was promised to it as `next_threshold`.
    pub before: u32,
    /// What the next one is measured by.
    pub with: u32,
}

/// How often each event type was pressed since its last effect, and the number of the next effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// By the place of the event type.
    pub counts: Vec<u32>,
    /// The number that the next effect gets.
    pub next_seq: u64,
}

impl Counts {
    /// Those of a new room.
    #[must_use]
    pub fn new(event_types: &EventTypes) -> Self {
        Self { counts: vec![0; event_types.all().len()], next_seq: 1 }
    }

    /// Counts a press; none where the room has no such event type.
    pub fn press(
        &mut self,
        rules: &Rules,
        event_types: &EventTypes,
        event_type: u8,
        crowd: Crowd,
    ) -> Option<(Answered, Option<Effect>)> {
        let base = event_types.at(event_type)?.base;
        let count = self.counts.get_mut(usize::from(event_type))?;
        let required = rules.required(base, crowd.before);
        *count += 1;
        let answered = Answered {
            event_type,
            current_count: *count,
            required_count: required,
            effect_triggered: *count >= required,
            viewer_count: crowd.with,
            next_threshold: rules.required(base, crowd.with),
        };
        if !answered.effect_triggered {
            return Some((answered, None));
        }
        let effect =
            Effect { seq: self.next_seq, event_type, trigger_count: *count, viewer_count: crowd.with };
        *count = 0;
        self.next_seq += 1;
        Some((answered, Some(effect)))
    }

    /// The counts as they are stored: 4 bytes each, the greatest first.
    #[must_use]
    pub fn stored(&self) -> Vec<u8> {
        self.counts.iter().flat_map(|count| count.to_be_bytes()).collect()
    }

    /// What [`Self::stored`] told of a room with these event types.
    #[must_use]
    pub fn of_stored(event_types: &EventTypes, stored: &[u8], next_seq: u64) -> Option<Self> {
        let (counts, rest) = stored.as_chunks::<4>();
        let is_whole = rest.is_empty() && counts.len() == event_types.all().len();
        is_whole.then(|| Self {
            counts: counts.iter().map(|count| u32::from_be_bytes(*count)).collect(),
            next_seq,
        })
    }

    /// Starts all counts again; numbers of effects go on.
    pub fn reset(&mut self) {
        self.counts.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Crowd};
    use crate::model::room::rules::Rules;
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

    #[test]
    fn the_press_that_reaches_the_threshold_makes_the_effect_and_the_next_counts_as_the_first() {
        let (rules, types) = (Rules::default(), Rules::default().event_types);
        let mut counts = Counts::new(&types);
        let alone = Crowd { before: 1, with: 1 };
        let mut press = || counts.press(&rules, &types, 0, alone).unwrap();
        for count in 1..5 {
            let (answered, effect) = press();
            assert_eq!((answered.current_count, answered.required_count), (count, 5));
            assert_eq!((answered.effect_triggered, effect), (false, None));
        }
        let (answered, effect) = press();
        assert!(answered.effect_triggered);
        assert_eq!((answered.current_count, effect.unwrap().trigger_count), (5, 5));
        assert_eq!((press().0.current_count, effect.unwrap().seq), (1, 1));
        assert!(counts.press(&rules, &types, 6, alone).is_none());
        assert_eq!(Counts::of_stored(&types, &counts.stored(), 2), Some(counts.clone()));
        assert_eq!(Counts::of_stored(&types, &[0; 20], 2), None);
    }

    #[test]
    fn a_press_is_measured_against_what_the_one_before_was_told() {
        let (rules, types) = (Rules::default(), Rules::default().event_types);
        let mut counts = Counts::new(&types);
        // The sixth viewer raises the threshold, for those behind it.
        let (answered, _) = counts.press(&rules, &types, 0, Crowd { before: 5, with: 6 }).unwrap();
        assert_eq!((answered.required_count, answered.next_threshold, answered.viewer_count), (5, 6, 6));
        // Where the threshold falls below the count, the next press makes the effect, with all that were counted.
        for _ in 0..8 {
            counts.press(&rules, &types, 1, Crowd { before: 6, with: 6 });
        }
        let few = Rules { max: 4, ..Rules::default() };
        let (answered, effect) = counts.press(&few, &types, 1, Crowd { before: 1, with: 1 }).unwrap();
        assert_eq!((answered.current_count, answered.required_count), (9, 4));
        assert_eq!(effect.unwrap().trigger_count, 9);
    }

    proptest! {
        #[test]
        fn presses_are_counted_exactly(presses in proptest::collection::vec(
            (0u8..6, 1u32..60, any::<u8>().prop_map(|dice| dice < 4)), 1..600)) {
            let (rules, types) = (Rules::default(), Rules::default().event_types);
            let mut counts = Counts::new(&types);
            let (mut since, mut before, mut seq, mut promised) = ([0; 6], 0, 1, [None; 6]);
            for (event_type, with, reset) in presses {
                if reset {
                    counts.reset();
                    since = [0; 6];
                }
                let (answered, effect) =
                    counts.press(&rules, &types, event_type, Crowd { before, with }).unwrap();
                let at = usize::from(event_type);
                since[at] += 1;
                prop_assert_eq!(answered.current_count, since[at]);
                let bases = [5, 10, 15, 5, 10, 15];
                prop_assert_eq!(answered.required_count, rules.required(bases[at], before));
                if let Some(promised) = promised[at] {
                    prop_assert_eq!(answered.required_count, promised);
                }
                // What was promised holds for the next press of that type unless others come in between.
                promised = [None; 6];
                promised[at] = Some(answered.next_threshold);
                prop_assert_eq!(answered.effect_triggered, since[at] >= answered.required_count);
                prop_assert_eq!(effect.is_some(), answered.effect_triggered);
                if let Some(effect) = effect {
                    prop_assert_eq!((effect.seq, effect.trigger_count), (seq, since[at]));
                    seq += 1;
                    since[at] = 0;
                }
                prop_assert!(counts.counts.iter().zip(&since).all(|(ours, model)| ours == model));
                before = with;
            }
        }
    }
}
