//! The rules of rooms: what can be pressed, and how many presses make an effect. All in whole numbers.

use std::fmt;
use std::time::Duration;

/// The most characters of an event type's name.
pub const MAX_NAME_CHARS: usize = 64;
/// The most event types of one room.
pub const MAX_EVENT_TYPES: usize = 64;
/// The greatest base.
pub const MAX_BASE: u32 = 1_000_000;
/// The greatest threshold that rules may ask for, hence the greatest count.
pub const MAX_THRESHOLD: u32 = u16::MAX as u32;

/// The name of an event type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventName(String);

/// Why something is no event type, in words for whoever asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventTypeError {
    /// The name.
    #[error("a name has 1 to 64 characters of a-z, A-Z, 0-9, _ and -")]
    Name,
    /// The base.
    #[error("a base is between 1 and 1000000")]
    Base,
    /// How many.
    #[error("a room has between 1 and 64 event types")]
    Number,
    /// A name that is there twice.
    #[error("two event types have one name")]
    Twice,
}

impl EventName {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`EventTypeError::Name`].
    pub fn parse(text: &str) -> Result<Self, EventTypeError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if (1..=MAX_NAME_CHARS).contains(&text.len()) && text.bytes().all(known) {
            Ok(Self(text.to_owned()))
        } else {
            Err(EventTypeError::Name)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that can be pressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventType {
    /// Its name.
    pub name: EventName,
    /// How many presses make an effect where few are there.
    pub base: u32,
}

impl EventType {
    /// Checks a name and a base.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(name: &str, base: u32) -> Result<Self, EventTypeError> {
        if !(1..=MAX_BASE).contains(&base) {
            return Err(EventTypeError::Base);
        }
        Ok(Self { name: EventName::parse(name)?, base })
    }
}

/// What can be pressed in a room: 1 to 64, no name twice. Each is known by its place, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTypes(Vec<EventType>);

impl EventTypes {
    /// Checks a list.
    ///
    /// # Errors
    /// [`EventTypeError::Number`] or [`EventTypeError::Twice`].
    pub fn parse(listed: Vec<EventType>) -> Result<Self, EventTypeError> {
        if !(1..=MAX_EVENT_TYPES).contains(&listed.len()) {
            return Err(EventTypeError::Number);
        }
        let mut names: Vec<&EventName> = listed.iter().map(|event_type| &event_type.name).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() < listed.len() { Err(EventTypeError::Twice) } else { Ok(Self(listed)) }
    }

    /// All of them, by place.
    #[must_use]
    pub fn all(&self) -> &[EventType] {
        &self.0
    }

    /// The place of a name.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<u8> {
        self.0.iter().position(|event_type| event_type.name.as_str() == name).map(|place| place as u8)
    }

    /// The one at a place.
    #[must_use]
    pub fn at(&self, place: u8) -> Option<&EventType> {
        self.0.get(usize::from(place))
    }

    /// As it is stored: a name, a space, a base, a line each.
    #[must_use]
    pub fn stored(&self) -> String {
        self.0.iter().map(|of| format!("{} {}\n", of.name, of.base)).collect()
    }

    /// What [`Self::stored`] told.
    #[must_use]
    pub fn of_stored(text: &str) -> Option<Self> {
        let line = |line: &str| {
            let (name, base) = line.split_once(' ')?;
            EventType::parse(name, base.parse().ok()?).ok()
        };
        Self::parse(text.lines().map(line).collect::<Option<_>>()?).ok()
    }
}

/// From how many active viewers on a base is multiplied by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// From so many viewers on.
    pub viewers: u32,
    /// The multiplier in hundredths.
    pub hundredths: u32,
}

/// How many presses make an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What can be pressed in a room whose maker does not say.
    pub event_types: EventTypes,
    /// By viewers, fewest first; below the first step the multiplier is 1.
    pub steps: Vec<Step>,
    /// No threshold is below.
    pub min: u32,
    /// No threshold is above; at most [`MAX_THRESHOLD`].
    pub max: u32,
    /// How long a press makes its viewer active.
    pub active_window: Duration,
}

impl Rules {
    /// How many presses of that base make an effect while so many viewers are active: rounded up, and within the bounds.
    #[must_use]
    pub fn required(&self, base: u32, viewers: u32) -> u32 {
        let step = self.steps.iter().rev().find(|step| step.viewers <= viewers);
        let hundredths = step.map_or(100, |step| step.hundredths);
        let exact = (u64::from(base) * u64::from(hundredths)).div_ceil(100);
        let most = self.max.clamp(1, MAX_THRESHOLD);
        u32::try_from(exact).unwrap_or(u32::MAX).clamp(self.min.clamp(1, most), most)
    }
}

impl Default for Rules {
    fn default() -> Self {
        let named = |name: &str, base| EventType { name: EventName(name.to_owned()), base };
        let steps = [(1, 100), (6, 120), (11, 150), (21, 200), (51, 300)];
        Self {
            event_types: EventTypes(vec![
                named("skill1", 5),
                named("skill2", 10),
                named("skill3", 15),
                named("enemy1", 5),
                named("enemy2", 10),
                named("enemy3", 15),
            ]),
            steps: steps.map(|(viewers, hundredths)| Step { viewers, hundredths }).to_vec(),
            min: 3,
            max: 100,
            active_window: Duration::from_secs(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{EventType, EventTypeError, EventTypes, Rules};

    #[test]
    fn thresholds_are_what_the_contract_says() {
        let rules = Rules::default();
        let of =
            |base| [0, 1, 5, 6, 10, 11, 20, 21, 50, 51, 100_000].map(|viewers| rules.required(base, viewers));
        assert_eq!(of(5), [5, 5, 5, 6, 6, 8, 8, 10, 10, 15, 15]);
        assert_eq!(of(15), [15, 15, 15, 18, 18, 23, 23, 30, 30, 45, 45]);
        // Bounds: nothing below 3, nothing above 100; rounded up before that.
        assert_eq!(of(1), [3; 11]);
        assert_eq!(of(2), [3, 3, 3, 3, 3, 3, 3, 4, 4, 6, 6]);
        assert_eq!(of(40), [40, 40, 40, 48, 48, 60, 60, 80, 80, 100, 100]);
        assert_eq!(of(u32::MAX), [100; 11]);
    }

    #[test]
    fn a_list_is_stored_and_read_back_and_a_wrong_one_is_refused() {
        let rules = Rules::default();
        assert_eq!(EventTypes::of_stored(&rules.event_types.stored()), Some(rules.event_types.clone()));
        assert_eq!((rules.event_types.place("enemy1"), rules.event_types.place("x")), (Some(3), None));
        assert_eq!(EventTypes::of_stored("skill1 0\n"), None);
        assert_eq!(EventType::parse("a b", 1), Err(EventTypeError::Name));
        assert_eq!(EventType::parse("", 1), Err(EventTypeError::Name));
        assert_eq!(EventType::parse("a", 0), Err(EventTypeError::Base));
        assert_eq!(EventTypes::parse(Vec::new()), Err(EventTypeError::Number));
        let one = EventType::parse("a", 1).unwrap();
        assert_eq!(EventTypes::parse(vec![one.clone(), one]), Err(EventTypeError::Twice));
    }
}
