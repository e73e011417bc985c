//! The copy itself: stage after stage, a portion at a time, so that it takes the same memory whatever it moves; the
//! target knows how far it is, so that one that ended early is gone on with.

use super::{Export, Import, Kind, Portion, Progress, Stage, Sum};
use crate::model::cursor::StoreName;
use crate::model::timestamp::Timestamp;
use crate::storage::StorageError;
use std::time::Duration;

/// What expires sooner than so is not compared: it may be gone from one store and not yet from the other.
const FLEETING: Duration = Duration::from_secs(30 * 60);

/// Why a copy is not whole.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The target is the source.
    #[error("source and target are the same store")]
    Same,
    /// The target holds something that no copy made.
    #[error("the target already holds data: copy into an empty one")]
    NotEmpty,
    /// The target holds a part of something else.
    #[error(
        "the target holds an unfinished copy of another store: go on with that one, or empty the target first"
    )]
    OfAnother,
    /// Source and target are not the same.
    #[error("the copy is not the same: {} differ; the target stays closed. Empty it and copy again", names(.0))]
    Differs(Vec<Compared>),
    /// A store failed; the copy can be gone on with.
    #[error("{0}; the same command again goes on from here")]
    Storage(#[from] StorageError),
}

fn names(compared: &[Compared]) -> String {
    let differing = compared.iter().filter(|compared| !compared.is_same());
    differing.map(|compared| compared.kind.name()).collect::<Vec<_>>().join(", ")
}

/// A kind, in both stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Which.
    pub kind: Kind,
    /// What the source holds of it.
    pub source: Sum,
    /// What the target holds.
    pub target: Sum,
}

impl Compared {
    /// Whether both hold the same.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.source == self.target
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// At which stage.
    pub stage: Stage,
    /// Of which kind, where it is of one.
    pub kind: Option<Kind>,
    /// Records that this run has done of it.
    pub done: u64,
    /// How many there are, where that is known.
    pub count: Option<u64>,
    /// Which share of them is done, where that is known.
    pub share: Option<f64>,
}

/// Copies everything, or goes on with a copy; `watch` hears of every portion. Answers what was compared.
///
/// # Errors
/// Why the target is not a whole copy.
pub async fn copy(
    source: &dyn Export,
    target: &dyn Import,
    mut watch: impl FnMut(Step),
) -> Result<Vec<Compared>, CopyError> {
    let mut progress = begin(source.name(), target).await?;
    while progress.stage != Stage::Compare {
        progress = match progress.stage {
            Stage::Take(kind) => take(kind, progress, source, target, &mut watch).await?,
            _ => settle(progress, target, &mut watch).await?,
        };
    }
    let mut compared = Vec::with_capacity(Kind::ALL.len());
    for kind in Kind::ALL.into_iter().filter(|kind| target.keeps(*kind)) {
        compared.push(compare(kind, source, target, &mut watch).await?);
    }
    if !compared.iter().all(Compared::is_same) {
        return Err(CopyError::Differs(compared));
    }
    target.finish().await?;
    Ok(compared)
}

/// The copy that was begun, or a new one.
async fn begin(source: StoreName, target: &dyn Import) -> Result<Progress, CopyError> {
    if source == target.name() {
        return Err(CopyError::Same);
    }
    match target.unfinished().await? {
        Some(progress) if progress.source == source.0 => return Ok(progress),
        Some(_) => return Err(CopyError::OfAnother),
        None => {}
    }
    if !target.is_empty().await? {
        return Err(CopyError::NotEmpty);
    }
    let progress = Progress {
        source: source.0,
        begun_at: Timestamp::now().millis(),
        stage: Stage::ALL[0],
        place: None,
        last: 0,
    };
    target.note(progress.clone()).await?;
    Ok(progress)
}

async fn take(
    kind: Kind,
    mut progress: Progress,
    source: &dyn Export,
    target: &dyn Import,
    watch: &mut impl FnMut(Step),
) -> Result<Progress, CopyError> {
    // Of a copy that is gone on with, how many were done before is not known.
    let count = if progress.place.is_none() { source.count(kind).await? } else { None };
    let mut step = Step { stage: progress.stage, kind: Some(kind), done: 0, count, share: None };
    watch(step);
    loop {
        let Portion { records, next, share } =
            source.portion(kind, progress.place.clone(), Timestamp::now()).await?;
        (step.done, step.share) = (step.done + records.len() as u64, share);
        let is_last = next.is_none();
        progress.place = next;
        if is_last {
            progress.stage = progress.stage.next();
        }
        // Where it goes on is noted down together with the records: the numbers that they got are given once.
        if !records.is_empty() {
            progress = target.take(records, source.numbering(), progress).await?;
        } else if is_last {
            target.note(progress.clone()).await?;
        }
        watch(step);
        if is_last {
            return Ok(progress);
        }
    }
}

async fn settle(
    mut progress: Progress,
    target: &dyn Import,
    watch: &mut impl FnMut(Step),
) -> Result<Progress, CopyError> {
    let mut step = Step { stage: progress.stage, kind: None, done: 0, count: None, share: None };
    watch(step);
    while let Some(next) = target.settle(progress.place.clone()).await? {
        progress.place = Some(next);
        target.note(progress.clone()).await?;
        step.done += 1;
        watch(step);
    }
    progress = Progress { stage: progress.stage.next(), place: None, ..progress };
    target.note(progress.clone()).await?;
    Ok(progress)
}

async fn compare(
    kind: Kind,
    source: &dyn Export,
    target: &dyn Import,
    watch: &mut impl FnMut(Step),
) -> Result<Compared, CopyError> {
    let alive_at = Timestamp::now().after(FLEETING);
    let count = source.count(kind).await?;
    let mut step = Step { stage: Stage::Compare, kind: Some(kind), done: 0, count, share: None };
    watch(step);
    let (mut sums, mut places) = ([Sum::default(); 2], [None, None]);
    let (mut is_read, stores) = ([false; 2], [source, target as &dyn Export]);
    while is_read != [true; 2] {
        for (at, store) in stores.into_iter().enumerate() {
            if is_read[at] {
                continue;
            }
            let portion = store.portion(kind, places[at].take(), alive_at).await?;
            portion.records.iter().for_each(|record| sums[at].add(record));
            is_read[at] = portion.next.is_none();
            places[at] = portion.next;
            if at == 0 {
                step.done = sums[at].count;
                step.share = portion.share;
            }
        }
        watch(step);
    }
    let [source, target] = sums;
    Ok(Compared { kind, source, target })
}
