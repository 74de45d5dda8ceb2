//! Answers in the turn in which the request was read.
//!
//! hyper runs each call of an HTTP/2 connection as a task of its own. Most calls here only read memory, and for those
//! the way through the scheduler, which may wake another thread, costs more than the call. So a call is first polled
//! inside its connection's task; if it answers, the connection sends that at once, together with the answers of
//! all calls that were read with it. A call that waits becomes a task after all, and holds up nobody.
//!
//! While a turn runs, wake-ups of the connection only mark it to go on; between turns they reach the runtime.

use std::{
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use hyper::rt::Executor;
use kernel::BoxFuture;

/// How often a turn goes on before other tasks get theirs.
const ROUNDS: usize = 16;

/// The calls that a connection has read and that were not polled yet.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Calls {
    fn execute(&self, call: F) {
        lock(&self.0).push(Box::pin(call));
    }
}

impl Calls {
    /// Polls each call once; those that wait go on as tasks. Whether there were any.
    fn run(&self, cx: &mut Context<'_>, room: &mut Vec<BoxFuture<'static, ()>>) -> bool {
        mem::swap(room, &mut *lock(&self.0));
        let any = !room.is_empty();
        for mut call in room.drain(..) {
            if call.as_mut().poll(cx).is_pending() {
                tokio::spawn(call);
            }
        }
        any
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that is run together with its calls.
pub(crate) struct Turns<C> {
    connection: Pin<Box<C>>,
    calls: Calls,
    room: Vec<BoxFuture<'static, ()>>,
    bell: Arc<Bell>,
    waker: Waker,
}

impl<C> Turns<C> {
    /// Runs a connection whose executor is `calls`.
    pub(crate) fn new(connection: C, calls: Calls) -> Self {
        let bell = Arc::new(Bell { state: AtomicU8::new(RESTING), task: Mutex::new(Waker::noop().clone()) });
        let waker = Waker::from(bell.clone());
        Turns { connection: Box::pin(connection), calls, room: Vec::new(), bell, waker }
    }

    pub(crate) fn connection(&mut self) -> Pin<&mut C> {
        self.connection.as_mut()
    }
}

impl<C: Future> Future for Turns<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let Turns { connection, calls, room, bell, waker } = &mut *self;
        bell.belongs_to(cx.waker());
        let mut inner = Context::from_waker(waker);
        for _ in 0..ROUNDS {
            bell.begin();
            let ended = connection.as_mut().poll(&mut inner);
            // What was read before the end is called all the same: its client may not wait for an answer.
            let any = calls.run(&mut inner, room);
            if ended.is_ready() {
                return ended;
            }
            if !any && bell.rest() {
                return Poll::Pending;
            }
        }
        bell.state.store(RESTING, Ordering::Release);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// No turn runs: a wake-up goes to the runtime.
const RESTING: u8 = 0;
/// A turn runs.
const RUNNING: u8 = 1;
/// A turn runs and must go on.
const RUNG: u8 = 2;

/// What wakes a connection.
struct Bell {
    state: AtomicU8,
    task: Mutex<Waker>,
}

impl Bell {
    fn belongs_to(&self, waker: &Waker) {
        let mut task = lock(&self.task);
        if !task.will_wake(waker) {
            task.clone_from(waker);
        }
    }

    fn begin(&self) {
        self.state.store(RUNNING, Ordering::Release);
    }

    /// Ends a turn, unless something rang during it.
    fn rest(&self) -> bool {
        self.state.compare_exchange(RUNNING, RESTING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let rung = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| (state == RUNNING).then_some(RUNG));
        if rung == Err(RESTING) {
            lock(&self.task).wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// A connection that turns every number it hears into a call, and ends when nobody speaks any more.
    async fn connection(calls: Calls, mut heard: mpsc::Receiver<u32>, said: mpsc::UnboundedSender<u32>) {
        while let Some(number) = heard.recv().await {
            let said = said.clone();
            calls.execute(async move {
                if number % 2 == 1 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                let _ = said.send(number);
            });
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_call_is_answered_whether_it_waits_or_not() {
        let (speak, heard) = mpsc::channel(3);
        let (said, mut answers) = mpsc::unbounded_channel();
        let calls = Calls::default();
        let running = tokio::spawn(Turns::new(connection(calls.clone(), heard, said), calls));
        for number in 0..1000 {
            speak.send(number).await.unwrap();
        }
        drop(speak);
        running.await.unwrap();
        let mut all = Vec::new();
        while let Some(number) = answers.recv().await {
            all.push(number);
        }
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_call_that_waits_holds_up_no_other() {
        let (open, gate) = oneshot::channel::<()>();
        let (done, first) = oneshot::channel();
        let calls = Calls::default();
        calls.execute(async move {
            let _ = gate.await;
        });
        calls.execute(async move {
            let _ = done.send(());
        });
        let running = tokio::spawn(Turns::new(std::future::pending::<()>(), calls));
        first.await.unwrap();
        open.send(()).unwrap();
        running.abort();
    }
}
