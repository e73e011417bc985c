//! Which processors a run uses: all for everybody, or one half for what is measured and the other for what measures.
//!
//! On few processors a client that wakes takes them from the server that woke it, the more often the more processes the
//! server has. In a deployment clients have machines of their own.

use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::{Error, Result, io_error};

/// Where what is measured runs, if apart.
static MEASURED: OnceLock<CpuSet> = OnceLock::new();

/// From now on the calling thread, and those that it starts, run on the latter half of its processors, and what
/// [`spawn`] starts on the former.
pub fn set_apart() -> Result<()> {
    let all = sched_getaffinity(None).map_err(refused)?;
    let numbers: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|number| all.is_set(*number)).collect();
    let (former, latter) = numbers.split_at(numbers.len() / 2);
    if former.is_empty() {
        return Err(Error::Refused("there is one processor, which cannot be shared out".to_owned()));
    }
    sched_setaffinity(None, &set_of(latter)).map_err(refused)?;
    let _set_before = MEASURED.set(set_of(former));
    Ok(())
}

/// Starts what is measured: where the calling thread runs, or apart from it.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let Some(measured) = MEASURED.get() else { return command.spawn() };
    // A child begins where the thread that makes it may run.
    let own = sched_getaffinity(None)?;
    sched_setaffinity(None, measured)?;
    let child = command.spawn();
    sched_setaffinity(None, &own)?;
    child
}

fn set_of(numbers: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    numbers.iter().for_each(|number| set.set(*number));
    set
}

fn refused(error: rustix::io::Errno) -> Error {
    io_error("sharing out processors")(error.into())
}
