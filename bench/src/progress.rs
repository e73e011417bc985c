//! What the person before the terminal sees while a scenario runs.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Says which stage a scenario is in: bars on a terminal, else a line a stage on standard error.
#[derive(Debug)]
pub struct Progress {
    scenario: String,
    shown: Shown,
}

#[derive(Debug, PartialEq, Eq)]
enum Shown {
    Bars,
    Lines,
    Nothing,
}

impl Progress {
    /// For the scenario of this name.
    pub fn new(scenario: &str) -> Self {
        Self {
            scenario: scenario.to_owned(),
            shown: if ProgressDrawTarget::stderr().is_hidden() { Shown::Lines } else { Shown::Bars },
        }
    }

    /// Shows nothing: for steps too many and too small.
    pub fn quiet() -> Self {
        Self { scenario: String::new(), shown: Shown::Nothing }
    }

    /// A stage whose steps can be counted; it goes away when it is dropped.
    pub fn bar(&self, stage: &str, steps: u64) -> Stage {
        self.stage(stage, ProgressBar::new(steps), "{msg} {wide_bar} {pos}/{len} {eta}")
    }

    /// A stage of unknown length.
    pub fn spinner(&self, stage: &str) -> Stage {
        let stage = self.stage(stage, ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}");
        stage.bar.enable_steady_tick(Duration::from_millis(250));
        stage
    }

    fn stage(&self, stage: &str, bar: ProgressBar, template: &str) -> Stage {
        let message = format!("{}: {stage}", self.scenario);
        match self.shown {
            Shown::Bars => {}
            Shown::Lines => eprintln!("{message}"),
            Shown::Nothing => bar.set_draw_target(ProgressDrawTarget::hidden()),
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(message);
        Stage { bar }
    }
}

/// One stage, shown as long as this lives.
#[derive(Debug)]
pub struct Stage {
    bar: ProgressBar,
}

impl Stage {
    /// Counts steps.
    pub fn inc(&self, steps: u64) {
        self.bar.inc(steps);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
