//! Makes something else of bytes that were right, by the dice.

use crate::harness::dice::Dice;

/// What parsers have stumbled over, in any of the languages spoken here.
const MORSELS: [&[u8]; 52] = [
    b"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b":",
    b",",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"-0.0",
    b"18446744073709551616",
    b"9223372036854775807",
    b"\\u0000",
    b"\\ud800",
    b"\\udfff\\ud800",
    b"\\n",
    b"\0",
    b"\x7f",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"\xcc\x81\xcc\x81\xcc\x81",
    b"%00",
    b"%ff",
    b"%",
    b"%2",
    b"%2e%2e%2f",
    b"../",
    b"//",
    b";",
    b"?",
    b"&",
    b"=",
    b"#",
    b"+",
    b" ",
    b"\t",
    b"'",
    b"' OR 1=1 --",
    b"<script>",
    b"__proto__",
    b"Bearer ",
    b"limit=0",
    b"cursor=",
];

/// Changes a copy in one to four places.
pub fn mutated(dice: &mut Dice, original: &[u8]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=dice.below(4) {
        change(dice, &mut bytes);
    }
    bytes
}

fn change(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let at = dice.below(bytes.len() + 1);
    let end = at + dice.below(bytes.len() - at + 1);
    match dice.below(10) {
        // A bit.
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        // Any byte.
        2 if at < bytes.len() => bytes[at] = dice.next() as u8,
        3 => bytes.insert(at, dice.next() as u8),
        // A piece gone, doubled, or all that follows gone.
        4 => drop(bytes.drain(at..end)),
        5 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        6 => bytes.truncate(at),
        // Far too much of something.
        7 if dice.one_in(20) => {
            let (morsel, times) = (dice.pick(&MORSELS), 1 << dice.below(13));
            bytes.splice(at..at, morsel.repeat(times));
        }
        // Something unexpected, beside what is there or in its place.
        8 => drop(bytes.splice(at..end, dice.pick(&MORSELS).iter().copied())),
        _ => drop(bytes.splice(at..at, dice.pick(&MORSELS).iter().copied())),
    }
}
