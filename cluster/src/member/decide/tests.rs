//! Each rule of who makes which view.

use super::super::lease::LeaseRecord;
use super::*;
use crate::node::{Boot, NodeName};

/// `a1` is the first start of the node `a`.
fn node(text: &str) -> Node {
    let (name, boot) = text.split_at(1);
    Node { name: NodeName::parse(name).unwrap(), boot: Boot::new(boot.parse().unwrap()) }
}

fn state(text: &str) -> State {
    match text {
        "up" => State::Up,
        "joining" => State::Joining,
        "draining" => State::Draining,
        other => panic!("no state: {other}"),
    }
}

/// `a1 up, b2 joining`.
fn members(text: &str) -> Vec<(Node, State)> {
    let one = |text: &str| {
        let (of, is) = text.split_once(' ').unwrap();
        (node(of), state(is))
    };
    text.split(", ").filter(|text| !text.is_empty()).map(one).collect()
}

/// `3: a1 up, b2 joining`.
fn view(text: &str) -> Option<ViewRecord> {
    let (number, rest) = text.split_once(": ")?;
    let member = |(node, state)| Member { node, state, address: String::new() };
    let members = members(rest).into_iter().map(member).collect();
    Some(ViewRecord { number: number.parse().unwrap(), maker: Boot::new(1), members })
}

fn seen(of: &str, leases: &str) -> Seen {
    let lease = |(node, state): (Node, State)| Lease {
        name: node.name,
        record: LeaseRecord {
            boot: node.boot,
            address: String::new(),
            state,
            protocol: 1,
            cluster: String::new(),
        },
    };
    Seen { view: view(of), leases: members(leases).into_iter().map(lease).collect() }
}

fn told(step: &Step) -> String {
    let say = |record: &ViewRecord| {
        let member = |member: &Member| {
            let boot = String::from(member.node.boot).trim_start_matches('0').to_owned();
            format!("{}{boot} {:?}", member.node.name, member.state).to_lowercase()
        };
        let members: Vec<String> = record.members.iter().map(member).collect();
        format!("{}: {}", record.number, members.join(", "))
    };
    match step {
        Step::Keep => "keep".to_owned(),
        Step::Adopt(record) => format!("adopt {}", say(record)),
        Step::Write(record, gone) if gone.is_empty() => format!("write {}", say(record)),
        Step::Write(record, gone) => {
            let gone: Vec<&str> = gone.iter().map(|node| node.name.as_str()).collect();
            format!("write {} without {}", say(record), gone.join(" "))
        }
    }
}

/// What `a1` does that goes by `current`, having read `seen`; `silent` are the names of those who are.
fn check(current: &str, (of, leases): (&str, &str), silent: &str, does: &str) {
    let step = step(&node("a1"), view(current).as_ref(), &seen(of, leases), &|node| {
        silent.contains(node.name.as_str())
    });
    assert_eq!(told(&step), does, "current {current}; read {of} / {leases}; silent {silent}");
}

#[test]
fn nothing_happens_while_all_is_as_it_was() {
    check("3: a1 up, b1 up", ("3: a1 up, b1 up", "a1 up, b1 up"), "", "keep");
}

#[test]
fn a_newer_view_is_taken_up_before_anything_else() {
    check("3: a1 up, b1 up", ("5: a1 up", "a1 up"), "b", "adopt 5: a1 up");
    check("", ("5: b1 up", "a1 joining"), "", "adopt 5: b1 up");
}

#[test]
fn who_asks_to_come_in_is_joining_and_up_when_it_says_so() {
    check("3: a1 up", ("3: a1 up", "a1 up, b1 joining"), "", "write 4: a1 up, b1 joining");
    check("4: a1 up, b1 joining", ("4: a1 up, b1 joining", "a1 up, b1 up"), "", "write 5: a1 up, b1 up");
    // It was in and is not: it has to ask anew.
    check("5: a1 up", ("5: a1 up", "a1 up, b1 up"), "", "keep");
}

#[test]
fn a_node_goes_only_when_its_lease_is_gone_and_it_is_silent() {
    let three = "3: a1 up, b1 up, c1 up";
    check(three, (three, "a1 up, b1 up"), "c", "write 4: a1 up, b1 up without c");
    check(three, (three, "a1 up, b1 up"), "", "keep");
    check(three, (three, "a1 up, b1 up, c1 up"), "c", "keep");
    check(three, (three, "a1 up, b1 up, c1 up"), "bc", "keep");
}

#[test]
fn a_new_start_comes_in_when_the_old_one_has_gone() {
    let two = "3: a1 up, b1 up";
    check(two, (two, "a1 up, b2 joining"), "", "keep");
    check(two, (two, "a1 up, b2 joining"), "b", "write 4: a1 up, b2 joining without b");
}

#[test]
fn a_draining_node_stays_and_has_its_state_told() {
    let two = "3: a1 up, b1 up";
    check(two, (two, "a1 up, b1 draining"), "", "write 4: a1 up, b1 draining");
    let drains = "4: a1 up, b1 draining";
    check(drains, (drains, "a1 up, b1 up"), "", "write 5: a1 up, b1 up");
    check(drains, (drains, "a1 up"), "b", "write 5: a1 up without b");
}

#[test]
fn an_empty_redis_is_not_believed_while_our_own_lease_is_missing() {
    let two = "7: a1 up, b1 up";
    check(two, ("", ""), "b", "keep");
    check(two, ("", "b1 up"), "", "keep");
    // Then the same nodes get a greater number; who is silent and has no lease was there no more before.
    check(two, ("", "a1 up"), "", "write 8: a1 up, b1 up");
    check(two, ("", "a1 up, b1 up"), "", "write 8: a1 up, b1 up");
}

#[test]
fn a_view_that_is_older_or_of_another_of_this_number_is_overruled() {
    check("7: a1 up, b1 up", ("5: a1 up", "a1 up, b1 up"), "", "write 8: a1 up, b1 up");
    check("7: a1 up, b1 up", ("7: a1 up", "a1 up, b1 up"), "", "write 8: a1 up, b1 up");
}

#[test]
fn only_who_is_up_makes_views_or_drains_where_nobody_is_up() {
    let read = ("3: a1 joining, b1 up", "a1 joining, b1 up, c1 joining");
    check("3: a1 joining, b1 up", read, "", "keep");
    check("3: b1 up", ("3: b1 up", "a1 joining, b1 up, c1 joining"), "", "keep");
    let drains = "3: a1 draining, b1 up";
    check(drains, (drains, "a1 draining, b1 up, c1 joining"), "", "keep");
    let both = "3: a1 draining, b1 draining";
    check(
        both,
        (both, "a1 draining, b1 draining, c1 joining"),
        "",
        "write 4: a1 draining, b1 draining, c1 joining",
    );
}

/// Whether `a1` finds itself alone, and what it then writes.
fn check_alone(current: &str, (of, leases): (&str, &str), silent: &str, does: &str) {
    let (current, seen) = (view(current), seen(of, leases));
    let is_silent = |node: &Node| silent.contains(node.name.as_str());
    let is_alone = is_alone(&node("a1"), current.as_ref(), &seen, &is_silent);
    let step = if is_alone { beginning(&node("a1"), current.as_ref(), &seen) } else { Step::Keep };
    assert_eq!(told(&step), does, "current {current:?}; read {of} / {leases}; silent {silent}");
}

#[test]
fn the_first_node_begins_and_of_several_the_least() {
    check_alone("", ("", "a1 joining"), "", "write 1: a1 up");
    check_alone("", ("", "a1 joining, b1 joining"), "", "write 1: a1 up, b1 joining");
    check_alone("", ("", "a1 joining, 01 joining"), "", "keep");
    check_alone("", ("", ""), "", "keep");
}

#[test]
fn nobody_begins_while_somebody_lives_by_lease_or_by_link() {
    check_alone("", ("", "a1 joining, b1 up"), "", "keep");
    check_alone("", ("", "a1 joining, b1 draining"), "", "keep");
    check_alone("9: b1 up", ("9: b1 up", "a1 joining, b1 up"), "b", "keep");
    // Redis lost what it had: they are heard by link.
    check_alone("9: b1 up", ("", "a1 joining"), "", "keep");
    check_alone("9: b1 up", ("9: b1 up", "a1 joining"), "", "keep");
}

#[test]
fn after_all_have_died_the_numbers_go_on() {
    check_alone("9: b1 up, c1 up", ("9: b1 up, c1 up", "a1 joining"), "bc", "write 10: a1 up without b c");
    check_alone("9: a1 joining, b1 up", ("", "a1 joining"), "b", "write 10: a1 up without b");
    check_alone(
        "9: b1 up",
        ("9: b1 up", "a1 joining, b2 joining"),
        "b",
        "write 10: a1 up, b2 joining without b",
    );
}
