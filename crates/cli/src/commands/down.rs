use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    data::{DataDir, is_haar},
    report::{Doing, Result, Trouble},
};

/// Stop haar, its services and their databases
#[derive(Args)]
pub struct Down {}

/// Longer than the 10 s that instances get to stop.
const PATIENCE: Duration = Duration::from_secs(20);

impl Down {
    pub fn run(self, data: &DataDir) -> Result<ExitCode> {
        let running = data.require_running()?;
        let first = running.supervisor.filter(|pid| is_haar(*pid)).unwrap_or(running.pid);
        signal(first, Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while is_haar(running.pid) || is_haar(first) {
            if Instant::now() > deadline {
                return Err(Trouble::new(format!("haar (pid {}) has not stopped within 20 s", running.pid))
                    .next(format!("end it with: kill -9 {}", running.pid)));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("haar is down; its state stays in {}", data.path().display());
        Ok(ExitCode::SUCCESS)
    }
}

fn signal(pid: i32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid).ok_or_else(|| Trouble::new("run.json holds no valid pid"))?;
    kill_process(pid, signal).doing(format_args!("stop process {}", pid.as_raw_nonzero()))
}
