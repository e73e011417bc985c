//! How input is broken: bytes, text, and the structure of JSON.

use crate::harness::chance::Chance;
use serde_json::{Map, Value, json};

/// Text that has broken something somewhere.
const NASTY: [&str; 26] = [
    "", " ", "\0", "\u{feff}", "\u{202e}", "\u{1F426}", "e\u{301}", "\r\n", "%00", "%", "%ff", "%2e%2e%2f", "../",
    "'; DROP TABLE users; --", "\" OR 1=1", "<script>", "null", "NaN", "-1", "0", "9223372036854775808", "1e999",
    "{}", "[[[[[[[[", "\\ud800", "${jndi:ldap://x}",
];

/// Cuts, repeats, flips, swaps and inserts.
pub fn mutate_bytes(mut bytes: Vec<u8>, chance: &mut Chance) -> Vec<u8> {
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len() + 1);
        match chance.below(6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            2 if at < bytes.len() => bytes[at] = chance.next() as u8,
            3 => drop(bytes.splice(at..at, chance.pick(&NASTY).bytes().collect::<Vec<_>>())),
            4 => {
                let end = (at + chance.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let end = (at + chance.below(64)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let piece = piece.repeat(1 + chance.below(8));
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// As bytes are, staying text; now and then long.
pub fn mutate_text(text: &str, chance: &mut Chance) -> String {
    match chance.below(12) {
        0 => (*chance.pick(&NASTY)).to_owned(),
        1 => text.to_owned(),
        2 => text.repeat(1 + chance.below(40)),
        3 => {
            let most = if chance.once_in(4) { 150_000 } else { 20_000 };
            format!("{text}{}", "x".repeat(chance.below(most)))
        }
        _ => String::from_utf8_lossy(&mutate_bytes(text.as_bytes().to_vec(), chance)).into_owned(),
    }
}

/// Another value, or the same with something in it changed, renamed, left out or added.
pub fn mutate_json(value: &Value, chance: &mut Chance) -> Value {
    if chance.once_in(8) {
        return any(chance, 3);
    }
    match value {
        Value::Object(members) => {
            let mut changed = Map::new();
            for (name, member) in members {
                match chance.below(10) {
                    0 => {}
                    1 => drop(changed.insert(mutate_text(name, chance), member.clone())),
                    2 => drop(changed.insert((*chance.pick(&NASTY)).to_owned(), any(chance, 2))),
                    3..6 => drop(changed.insert(name.clone(), mutate_json(member, chance))),
                    _ => drop(changed.insert(name.clone(), member.clone())),
                }
            }
            changed.into()
        }
        Value::Array(items) => {
            let mut changed: Vec<_> = items.iter().map(|item| mutate_json(item, chance)).collect();
            if chance.once_in(3) {
                let more = any(chance, 2);
                changed.extend(std::iter::repeat_n(more, chance.below(200)));
            }
            changed.into()
        }
        Value::String(text) => mutate_text(text, chance).into(),
        _ => any(chance, 2),
    }
}

fn any(chance: &mut Chance, depth: usize) -> Value {
    match chance.below(if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => chance.once_in(2).into(),
        2 => (chance.next() as i64).into(),
        3 => json!(f64::from_bits(chance.next())),
        4 => (*chance.pick(&NASTY)).into(),
        5 => "y".repeat(chance.below(300)).into(),
        6 => (0..chance.below(5)).map(|_| any(chance, depth - 1)).collect(),
        _ => {
            let names = ["content", "email", "post_ids", "type", ""];
            let members = (0..chance.below(4)).map(|_| ((*chance.pick(&names)).to_owned(), any(chance, depth - 1)));
            members.collect::<Map<_, _>>().into()
        }
    }
}
