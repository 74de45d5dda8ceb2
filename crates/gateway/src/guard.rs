//! What stands around a handler: its deadline, and its panics.
//!
//! A call past its deadline is dropped where it waits, as it is when its client goes away; handlers are written so
//! that this leaves nothing half done. A panic is a bug, answered as a fault of ours and written to the log, and
//! the connection's other calls never notice.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

use kernel::{Error, Result};
use tokio::time::{Instant, Sleep, sleep_until};

/// Runs a call until it answers, panics, or its time is over.
pub(crate) async fn run<T>(deadline: Option<Instant>, call: impl Future<Output = Result<T>>) -> Result<T> {
    let mut call = pin!(call);
    // A timer is made only for a call that waits.
    let mut timer = None;
    poll_fn(|cx| {
        match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
            Ok(Poll::Ready(answer)) => return Poll::Ready(answer),
            Ok(Poll::Pending) => {}
            Err(panic) => return Poll::Ready(Err(fault(&*panic))),
        }
        let Some(deadline) = deadline else { return Poll::Pending };
        let timer: &mut std::pin::Pin<Box<Sleep>> =
            timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        timer
            .as_mut()
            .poll(cx)
            .map(|()| Err(Error::deadline("Deadline expired before operation could complete.")))
    })
    .await
}

/// Runs something to its end, or to its panic, and says what that said.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let mut work = pin!(work);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(describe(&*panic).to_owned())),
    })
    .await
}

/// What a panic says, as far as it says anything.
fn describe(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

fn fault(panic: &(dyn Any + Send)) -> Error {
    Error::internal(format!("a handler panicked: {}", describe(panic)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kernel::Code;

    use super::*;

    #[tokio::test]
    async fn an_answer_passes_through() {
        assert_eq!(run(None, async { Ok(1) }).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_deadline_ends_a_call_that_waits() {
        let deadline = Some(Instant::now() + Duration::from_millis(5));
        let error = run::<()>(deadline, std::future::pending()).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_panic_is_a_fault_of_ours() {
        let error = run::<()>(None, async { panic!("oh") }).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Internal, "Internal error encountered."));
    }
}
