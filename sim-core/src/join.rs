//! What a spawned future leaves behind: its output, or how it failed, and the handles that ask for it.
//!
//! Shapes, texts and orders are tokio's (`tokio::task::{JoinHandle, AbortHandle, JoinError, Id}`), so that its
//! documentation holds here.

use crate::world::World;
use pin_project::pin_project;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// An opaque name of a task, unique in its World.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Id(pub(crate) u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a task has no output.
pub struct JoinError {
    id: Id,
    panic: Option<Mutex<Box<dyn Any + Send>>>,
}

impl JoinError {
    pub(crate) fn cancelled(id: Id) -> Self {
        JoinError { id, panic: None }
    }

    pub(crate) fn panicked(id: Id, payload: Box<dyn Any + Send>) -> Self {
        JoinError { id, panic: Some(Mutex::new(payload)) }
    }

    /// Whether the task was aborted, or died with its node or runtime.
    pub fn is_cancelled(&self) -> bool {
        self.panic.is_none()
    }

    /// Whether the task panicked.
    pub fn is_panic(&self) -> bool {
        self.panic.is_some()
    }

    /// The panic's payload.
    ///
    /// # Panics
    /// If the task did not panic.
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        self.try_into_panic().expect("`JoinError` reason is not a panic.")
    }

    /// The panic's payload, or the error itself if the task did not panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self.panic {
            Some(payload) => Ok(payload.into_inner().unwrap_or_else(PoisonError::into_inner)),
            None => Err(self),
        }
    }

    /// The task's id.
    pub fn id(&self) -> Id {
        self.id
    }

    fn message(&self) -> Option<String> {
        let payload = self.panic.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        panic_message(&**payload).map(str::to_owned)
    }
}

/// The text of a panic, if it has one.
pub fn panic_message(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&'static str>().copied())
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_panic(), self.message()) {
            (false, _) => write!(f, "task {} was cancelled", self.id),
            (true, Some(message)) => write!(f, "task {} panicked with message {message:?}", self.id),
            (true, None) => write!(f, "task {} panicked", self.id),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_panic(), self.message()) {
            (false, _) => write!(f, "JoinError::Cancelled({:?})", self.id),
            (true, Some(message)) => write!(f, "JoinError::Panic({:?}, {message:?}, ...)", self.id),
            (true, None) => write!(f, "JoinError::Panic({:?}, ...)", self.id),
        }
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for std::io::Error {
    fn from(e: JoinError) -> Self {
        std::io::Error::other(if e.is_panic() { "task panicked" } else { "task was cancelled" })
    }
}

/// Where the output waits for the handle.
struct Cell<T> {
    done: AtomicBool,
    state: Mutex<State<T>>,
}

struct State<T> {
    result: Option<Result<T, JoinError>>,
    waker: Option<Waker>,
}

impl<T> Cell<T> {
    fn complete(&self, result: Result<T, JoinError>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        self.done.store(true, Ordering::Release);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A spawned future as the executor sees it: poll it, or end it without an output.
pub(crate) trait Body {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
    /// Drops the future, then hands the error to the handle.
    fn end(self: Pin<&mut Self>, error: JoinError);
}

#[pin_project]
pub(crate) struct Spawned<F: Future> {
    #[pin]
    future: Option<F>,
    cell: Arc<Cell<F::Output>>,
    id: Id,
}

impl<F: Future> Spawned<F> {
    /// The future with the cell its handle will look at.
    pub(crate) fn new(future: F, id: Id, task: u64) -> (Self, JoinHandle<F::Output>) {
        let cell =
            Arc::new(Cell { done: AtomicBool::new(false), state: Mutex::new(State { result: None, waker: None }) });
        (Spawned { future: Some(future), cell: cell.clone(), id }, JoinHandle { cell, id, task })
    }
}

impl<F: Future> Body for Spawned<F> {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        match future.poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(output) => {
                // As in tokio, a destructor that panics takes the output with it.
                let dropped = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
                this.cell.complete(dropped.map(|()| output).map_err(|payload| JoinError::panicked(*this.id, payload)));
                Poll::Ready(())
            }
        }
    }

    fn end(self: Pin<&mut Self>, error: JoinError) {
        let mut this = self.project();
        if this.future.is_some() {
            let dropped = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
            this.cell.complete(Err(dropped.map_or_else(|payload| JoinError::panicked(*this.id, payload), |()| error)));
        }
    }
}

/// Asks for a task's output. Dropping it detaches the task.
pub struct JoinHandle<T> {
    cell: Arc<Cell<T>>,
    id: Id,
    task: u64,
}

impl<T> JoinHandle<T> {
    /// Cancels the task: its future is dropped the next time it would be polled.
    pub fn abort(&self) {
        World::with_current(|w| w.abort(self.task));
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.cell.done.load(Ordering::Acquire)
    }

    /// The task's id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// A handle that can cancel the task but not ask for its output.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle { id: self.id, task: self.task }
    }

    pub(crate) fn task(&self) -> u64 {
        self.task
    }

    /// Wakes `waker`, in place of an earlier one, when the task has ended; at once if it has.
    pub fn when_ended(&self, waker: Waker) {
        let mut state = self.cell.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.result.is_none() && !self.is_finished() {
            state.waker = Some(waker);
            return;
        }
        drop(state);
        waker.wake();
    }

    /// The output, if the task has ended. Taken once.
    pub fn try_take(&mut self) -> Option<Result<T, JoinError>> {
        self.cell.state.lock().unwrap_or_else(PoisonError::into_inner).result.take()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.cell.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = state.result.take() {
            return Poll::Ready(result);
        }
        assert!(!self.is_finished(), "JoinHandle polled after completion");
        if state.waker.as_ref().is_none_or(|w| !w.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        crate::waiting_for("a task to end");
        Poll::Pending
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id).finish()
    }
}

/// Cancels a task from elsewhere.
#[derive(Clone)]
pub struct AbortHandle {
    id: Id,
    task: u64,
}

impl AbortHandle {
    /// Cancels the task: its future is dropped the next time it would be polled.
    pub fn abort(&self) {
        World::with_current(|w| w.abort(self.task));
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        World::current().is_none_or(|w| !w.lives(self.task))
    }

    /// The task's id.
    pub fn id(&self) -> Id {
        self.id
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle").field("id", &self.id).finish()
    }
}
