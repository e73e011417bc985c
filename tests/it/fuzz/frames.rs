//! Frames: what a client may say, changed; and frames that are none.

use super::Target;
use super::mutator::mutated;
use super::wire::Wire;
use crate::harness::dice::Dice;
use crate::harness::raw::masked;
use serde_json::Value;

/// What ends a connection that was sent nonsense: no UTF-8, against the protocol, ten bad frames, too long;
/// or a close frame of the client's own.
const CLOSES: [u16; 5] = [1000, 1002, 1007, 4400, 4413];
/// Of what is sent, more than one in so many must have been answered by a frame.
const ANSWERED: usize = 3;

#[test]
fn no_frame_is_a_fault_of_the_server() {
    let target = Target::start();
    let token = &target.person.token;
    let said =
        [r#"{"type":"ping"}"#.to_owned(), format!(r#"{{"type":"auth","data":{{"token":"{token}"}}}}"#)];
    let mut dice = Dice::thrown("fuzzed frames");
    let (mut sent, mut answered, mut kept) = (0, 0, None);
    target.bear(|| {
        let right = dice.below(said.len());
        let payload = mutated(&mut dice, said[right].as_bytes());
        let mut wire = kept.take().unwrap_or_else(|| upgraded(&target));
        sent += 1;
        if dice.one_in(4) {
            // Anything, as if it were a frame; what waits for more is told that there is no more.
            let (last, opcode) = (!dice.one_in(4), any_opcode(&mut dice));
            let frame = mutated(&mut dice, &masked(last, opcode, &payload));
            wire.write(&frame);
            wire.finish();
            while hears(&mut wire, &frame).is_some() {}
            return;
        }
        let opcode = if dice.one_in(8) { 2 } else { 1 };
        wire.write(&masked(true, opcode, &payload));
        if hears(&mut wire, &payload).is_none() {
            return;
        }
        answered += 1;
        // Where it is never right, ten in a row end the connection.
        if dice.one_in(3) {
            wire.say(r#"{"type":"ping"}"#);
            if hears(&mut wire, b"ping").is_none_or(|frame| frame["type"] != "pong") {
                return;
            }
        }
        kept = Some(wire);
    });
    assert!(answered * ANSWERED > sent, "only {answered} of {sent} had an answer");
}

fn upgraded(target: &Target) -> Wire {
    let mut wire = Wire::connect(&target.server.authority());
    let request = format!(
        "GET /ws?token={} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        target.person.token
    );
    wire.write(request.as_bytes());
    assert_eq!(wire.answer(false).map(|answer| answer.status), Some(101));
    let frame = hears(&mut wire, b"").expect("the first frame");
    assert_eq!(frame["type"], "connected");
    wire
}

fn any_opcode(dice: &mut Dice) -> u8 {
    if dice.one_in(2) { 1 } else { dice.below(16) as u8 }
}

/// The next text frame, which must be one of the server's; none where the connection ended, which must be
/// for a reason of the client's.
fn hears(wire: &mut Wire, sent: &[u8]) -> Option<Value> {
    let sent = || sent.escape_ascii().to_string();
    loop {
        let (opcode, payload) = wire.frame()?;
        match opcode {
            1 => {
                let frame: Value = serde_json::from_slice(&payload).expect("a frame is JSON");
                match frame["type"].as_str() {
                    Some("connected" | "pong" | "authenticated") => {}
                    Some("error") => {
                        let data = &frame["data"];
                        let says = ["code", "detail"]
                            .iter()
                            .all(|name| data[name].as_str().is_some_and(|t| !t.is_empty()));
                        assert!(says, "it does not say what was wrong: {frame}, to {}", sent());
                    }
                    _ => panic!("{frame}, to {}", sent()),
                }
                return Some(frame);
            }
            8 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                assert!(CLOSES.contains(&code), "closed with {code}, after {}", sent());
                return None;
            }
            9 | 10 => {}
            _ => panic!("opcode {opcode}, to {}", sent()),
        }
    }
}
