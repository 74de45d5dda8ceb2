use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    data::{DataDir, is_haar},
    report::{Doing, Result, Trouble, tell},
    run_directory,
};

/// Stop haar, its services and their databases
#[derive(Args)]
pub struct Down {}

/// Longer than the 10 s that instances get to stop, and the 30 s that databases get after them.
const PATIENCE: Duration = Duration::from_secs(60);

impl Down {
    pub fn run(self, data: &DataDir) -> Result<ExitCode> {
        let Some(running) = data.running() else { return Self::stop_databases(data) };
        let first = running.supervisor.filter(|pid| is_haar(*pid)).unwrap_or(running.pid);
        signal(first, Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while is_haar(running.pid) || is_haar(first) {
            if Instant::now() > deadline {
                return Err(Trouble::new(format!("haar (pid {}) has not stopped within 60 s", running.pid))
                    .next(format!("end it with: kill -9 {}", running.pid)));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Those of a haar that could not stop them any more.
        left_databases(data)?;
        tell!("haar is down; its state stays in {}", data.path().display());
        Ok(ExitCode::SUCCESS)
    }

    /// Databases outlive a haar that was killed; they are stopped all the same.
    fn stop_databases(data: &DataDir) -> Result<ExitCode> {
        match left_databases(data)? {
            0 => data.require_running().map(|_| ExitCode::SUCCESS),
            count => {
                tell!("haar was down already; stopped {count} of its databases");
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Stops the databases that a killed haar has left, and tells how many there were.
pub fn left_databases(data: &DataDir) -> Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start")?;
    let count = runtime.block_on(sql::stop_left_behind(&data.join("sql")));
    run_directory::remove(data);
    Ok(count)
}

fn signal(pid: i32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid).ok_or_else(|| Trouble::new("run.json holds no valid pid"))?;
    kill_process(pid, signal).doing(format_args!("stop process {}", pid.as_raw_nonzero()))
}
