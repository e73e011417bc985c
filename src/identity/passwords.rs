//! Passwords: argon2id, off the async threads.
//!
//! Owns one or two threads of lowered priority and a queue of at most [`QUEUE_LENGTH`]; a full queue
//! refuses with [`IdentityError::Busy`], so that a flood of logins costs neither memory nor deliveries.
//! Who no longer waits for an answer is not worked for.

use super::IdentityError;
use crate::model::secret::Secret;
use crate::model::user::NewPassword;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error as HashError, PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use tokio::sync::oneshot;

/// As many passwords may wait; one more is refused.
pub const QUEUE_LENGTH: usize = 64;
/// No password is longer, in characters; a longer one is never hashed.
const MAX_CHARACTERS: usize = 128;

/// OWASP's argon2id of 19 MiB, 2 passes, 1 lane (Password Storage Cheat Sheet).
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// What a password is checked against where there is no user: the same work, and no password fits, its
/// digest being zeros.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm8gc3VjaCB1c2VyIQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Added to a thread's nice value: it yields to what serves sockets, and is not starved by it.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Hashes and verifies passwords. Dropping it ends its threads when the queue is empty.
pub struct Passwords {
    queue: SyncSender<Task>,
    waiting: Arc<AtomicUsize>,
}

enum Task {
    Hash { password: Secret, answer: oneshot::Sender<Result<String, IdentityError>> },
    Verify { password: Secret, hash: String, answer: oneshot::Sender<Result<bool, IdentityError>> },
}

impl Passwords {
    /// Starts the threads: one less than there are cores, at least one and at most two.
    ///
    /// # Errors
    /// [`IdentityError::Setup`] where a thread cannot be made.
    pub fn start() -> Result<Self, IdentityError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.saturating_sub(1).clamp(1, 2);
        let hasher = hasher()?;
        let (queue, tasks) = sync_channel(QUEUE_LENGTH);
        let tasks = Arc::new(Mutex::new(tasks));
        let waiting = Arc::new(AtomicUsize::new(0));
        for _ in 0..threads {
            let (tasks, waiting, hasher) = (tasks.clone(), waiting.clone(), hasher.clone());
            thread::Builder::new()
                .name("passwords".to_owned())
                .spawn(move || work(&tasks, &waiting, &hasher))
                .map_err(|error| IdentityError::Setup(format!("no thread for passwords: {error}")))?;
        }
        Ok(Self { queue, waiting })
    }

    /// The PHC string of a new password's hash, with a salt of its own.
    ///
    /// # Errors
    /// [`IdentityError::Busy`] where too many wait.
    pub async fn hash(&self, password: &NewPassword) -> Result<String, IdentityError> {
        let (answer, hashed) = oneshot::channel();
        self.queue(Task::Hash { password: password.secret().clone(), answer })?;
        hashed.await.map_err(|_| gone())?
    }

    /// Whether `password` is the one that `hash` was made of. Without a hash, the user being unknown, it
    /// is not, and that takes as long to say.
    ///
    /// # Errors
    /// [`IdentityError::Busy`] where too many wait.
    pub async fn verify(&self, password: &Secret, hash: Option<String>) -> Result<bool, IdentityError> {
        // Nobody's password is that long, whoever asks: saying so at once tells nothing of anybody.
        if password.expose().chars().nth(MAX_CHARACTERS).is_some() {
            return Ok(false);
        }
        let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
        let (answer, verified) = oneshot::channel();
        self.queue(Task::Verify { password: password.clone(), hash, answer })?;
        verified.await.map_err(|_| gone())?
    }

    /// How many passwords wait, those being worked on included.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn queue(&self, task: Task) -> Result<(), IdentityError> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.queue.try_send(task).map_err(|refused| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            match refused {
                TrySendError::Full(_) => IdentityError::Busy,
                TrySendError::Disconnected(_) => gone(),
            }
        })
    }
}

fn work(tasks: &Mutex<Receiver<Task>>, waiting: &AtomicUsize, hasher: &Argon2<'_>) {
    yield_to_others();
    loop {
        let next = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = next else { return };
        match task {
            Task::Hash { password, answer } if !answer.is_closed() => {
                let hashed = hasher.hash_password(password.expose().as_bytes());
                let hashed: Result<PasswordHash, _> = hashed;
                let _ = answer.send(hashed.map(|hash| hash.to_string()).map_err(failed));
            }
            Task::Verify { password, hash, answer } if !answer.is_closed() => {
                let _ = answer.send(verify(hasher, &password, &hash));
            }
            Task::Hash { .. } | Task::Verify { .. } => {}
        }
        waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn verify(hasher: &Argon2<'_>, password: &Secret, hash: &str) -> Result<bool, IdentityError> {
    let hash = PasswordHash::new(hash)
        .map_err(|error| IdentityError::Failed(format!("a stored password hash is damaged: {error}")))?;
    match hasher.verify_password(password.expose().as_bytes(), &hash) {
        Ok(()) => Ok(true),
        Err(HashError::PasswordInvalid) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

fn hasher() -> Result<Argon2<'static>, IdentityError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| IdentityError::Setup(format!("argon2 refuses its parameters: {error}")))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Lowers the calling thread's priority. On Linux alone a thread has one of its own: elsewhere the same
/// call would lower the whole process.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::getpriority_process(None)
        .and_then(|nice| rustix::process::setpriority_process(None, (nice + NICE).min(19)))
    {
        tracing::debug!(%error, "the threads that hash passwords keep their priority");
    }
}

fn failed(error: HashError) -> IdentityError {
    IdentityError::Failed(format!("argon2 failed: {error}"))
}

fn gone() -> IdentityError {
    IdentityError::Failed("the threads that hash passwords are gone".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{LANES, MEMORY_KIB, NOBODY, PASSES, Passwords, QUEUE_LENGTH};
    use crate::identity::IdentityError;
    use crate::model::secret::Secret;
    use crate::model::user::NewPassword;
    use argon2::Params;
    use argon2::password_hash::phc::PasswordHash;
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_and_no_other_does() {
        let passwords = Passwords::start().unwrap();
        let hash = passwords.hash(&NewPassword::parse("Passw0rd!").unwrap()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(!hash.contains("Passw0rd"));
        let again = passwords.hash(&NewPassword::parse("Passw0rd!").unwrap()).await.unwrap();
        assert_ne!(hash, again, "each hash has a salt of its own");

        assert!(passwords.verify(&Secret::new("Passw0rd!"), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify(&Secret::new("passw0rd!"), Some(hash)).await.unwrap());
    }

    /// The nice value of a thread of this process (proc(5), `stat`, field 19).
    #[cfg(target_os = "linux")]
    fn nice(stat: &std::path::Path) -> Option<i32> {
        let stat = std::fs::read_to_string(stat).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn hashing_yields_to_everything_else() {
        let passwords = Passwords::start().unwrap();
        passwords.verify(&Secret::new("Passw0rd!"), None).await.unwrap();
        let own = nice("/proc/thread-self/stat".as_ref()).unwrap();
        let hashing =
            std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path()).filter(|task| {
                std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "passwords\n")
            });
        let lowered =
            hashing.filter_map(|task| nice(&task.join("stat"))).any(|nice| nice == (own + 10).min(19));
        assert!(lowered, "no thread has a lower priority than {own}");
    }

    #[tokio::test]
    async fn nobody_has_a_password_and_it_costs_the_same_to_say_so() {
        let passwords = Passwords::start().unwrap();
        assert!(!passwords.verify(&Secret::new("Passw0rd!"), None).await.unwrap());

        let params = Params::try_from(&PasswordHash::new(NOBODY).unwrap()).unwrap();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (MEMORY_KIB, PASSES, LANES));
    }

    #[tokio::test]
    async fn a_password_over_128_characters_is_refused_unhashed() {
        let passwords = Passwords::start().unwrap();
        // A damaged hash would be an error, were it looked at.
        let verified = passwords.verify(&Secret::new("é".repeat(129)), Some("damaged".to_owned())).await;
        assert_eq!(verified, Ok(false));
        let verified = passwords.verify(&Secret::new("é".repeat(128)), Some("damaged".to_owned())).await;
        assert!(matches!(verified, Err(IdentityError::Failed(_))));
    }

    #[tokio::test]
    async fn a_flood_is_refused_at_the_queues_bound_and_leaves_nothing_behind() {
        let passwords = Passwords::start().unwrap();
        let password = Secret::new("Passw0rd!");
        let flood = (0..QUEUE_LENGTH * 2).map(|_| passwords.verify(&password, None));
        let answers = join_all(flood).await;
        let busy = answers.iter().filter(|answer| **answer == Err(IdentityError::Busy)).count();
        let done = answers.iter().filter(|answer| **answer == Ok(false)).count();
        assert!(busy > 0, "none was refused");
        assert!(done >= QUEUE_LENGTH, "only {done} were answered");
        assert_eq!(busy + done, QUEUE_LENGTH * 2);
        assert!(!passwords.verify(&password, None).await.unwrap());
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_worked_on() {
        let passwords = Passwords::start().unwrap();
        let password = Secret::new("Passw0rd!");
        let abandoned: Vec<_> = (1..QUEUE_LENGTH).map(|_| passwords.verify(&password, None)).collect();
        assert!(join_all(abandoned).now_or_never().is_none(), "they wait, and are dropped");
        let begun = std::time::Instant::now();
        passwords.verify(&password, None).await.unwrap();
        let behind_the_abandoned = begun.elapsed();
        let begun = std::time::Instant::now();
        passwords.verify(&password, None).await.unwrap();
        let alone = begun.elapsed();
        assert!(behind_the_abandoned < alone * 16, "{behind_the_abandoned:?} against {alone:?}");
    }
}
