//! What Cloud Run says of jobs, in its own words, as people quote them in public.

use std::time::Duration;

use kernel::Error;

/// The exit code was not 0.
pub(crate) const EXITED: &str = "The container exited with an error.";
/// A signal ended the container.
pub(crate) const SIGNALLED: &str = "A signal terminated the container.";
/// It wanted too much memory.
pub(crate) const OUT_OF_MEMORY: &str = "The configured memory limit was reached.";
/// It took too long.
pub(crate) const TIMED_OUT: &str = "The configured timeout was reached.";
/// Somebody cancelled the execution.
pub(crate) const CANCELLED: &str = "Cancelled by user.";
/// Haar itself was restarted; Google has no such words.
pub(crate) const INTERRUPTED: &str = "The attempt was interrupted by a restart of the server.";

pub(crate) const WAITING: &str = "Waiting for execution to complete.";
pub(crate) const IMPORTED: &str = "Imported container image.";
pub(crate) const PROVISIONED: &str = "Provisioned imported containers.";

/// The first task has begun.
pub(crate) fn started(after: Duration) -> String {
    format!("Started deployed execution in {}.", span(after))
}

/// All tasks have succeeded.
pub(crate) fn succeeded(after: Duration) -> String {
    format!("Execution completed successfully in {}.", span(after))
}

/// A task has failed for good. The exit code is 0 where there is none.
pub(crate) fn failed(task: &str, exit_code: i32, message: &str) -> String {
    format!("Task {task} failed with exit code: {exit_code} and message: {message}")
}

/// In the log of an attempt that takes too long.
pub(crate) fn terminating(seconds: u32) -> String {
    format!("Terminating task because it has reached the maximum timeout of {seconds} seconds.")
}

/// A cancellation that comes too late.
pub(crate) fn not_running(execution: &str) -> Error {
    Error::precondition(format!("Execution '{execution}' cannot be cancelled because it is not running."))
}

/// `2m29.63s`: hours and minutes where there are some, and seconds to the hundredth.
fn span(length: Duration) -> String {
    let hundredths = length.as_millis() / 10;
    let (minutes, rest) = (hundredths / 6000, hundredths % 6000);
    let mut seconds = format!("{}.{:02}", rest / 100, rest % 100);
    seconds.truncate(seconds.trim_end_matches('0').trim_end_matches('.').len());
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_cloud_run_writes_them() {
        let written = |millis| span(Duration::from_millis(millis));
        assert_eq!(
            [420, 38_220, 63_600, 149_634, 120_000, 3_661_000].map(written),
            ["0.42s", "38.22s", "1m3.6s", "2m29.63s", "2m0s", "1h1m1s"]
        );
    }
}
