//! A node's own clock, off by what a test says: the library of Debian's package `faketime`, loaded before the
//! program's others, reads how much from a file. Monotonic clocks stay right.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the package puts its libraries, by machine.
const LIBRARIES: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The file that says how much it is off.
pub struct Clock(PathBuf);

/// Whether this machine has the library.
pub fn can_be_set() -> bool {
    library().is_some()
}

impl Clock {
    pub fn in_folder(folder: &Path) -> Self {
        let clock = Self(folder.join("clock"));
        clock.set(0);
        clock
    }

    pub fn set(&self, seconds: i32) {
        // In one step: a half of it would be another time.
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{seconds:+}")).expect("a file");
        fs::rename(new, &self.0).expect("a file");
    }

    /// By how many seconds it is off.
    pub fn seconds(&self) -> i32 {
        fs::read_to_string(&self.0).expect("the file").parse().expect("a number")
    }

    /// What the program is started with.
    pub fn variables(&self) -> [(&'static str, String); 4] {
        let library = library().expect("the library is there");
        [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}

/// Removes what the library leaves behind of a process that was killed.
pub fn forget(pid: u32) {
    for left in [format!("/dev/shm/faketime_shm_{pid}"), format!("/dev/shm/sem.faketime_sem_{pid}")] {
        // Most processes have no such clock.
        let _ = fs::remove_file(left);
    }
}

fn library() -> Option<PathBuf> {
    let machines = fs::read_dir(LIBRARIES).ok()?.filter_map(Result::ok);
    machines.map(|machine| machine.path().join(LIBRARY)).find(|library| library.exists())
}
