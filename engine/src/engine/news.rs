//! News: waiting for something new in a shape's log, as a future, in a thread that blocks, or as a
//! subscription with a channel. Who waits is woken by its waker when the sync that made something
//! of its shape durable is done, when the shape goes, and when the engine stops or fails (R16).

use super::error::ReadError;
use super::{Engine, Inner, after};
use crate::control::{Failure, Seated};
use crate::log::{Page, ReadLimits};
use crate::words::{Handle, Offset};
use crossbeam::sync::{Parker, Unparker};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// A look at whether there is something takes the first change of it.
const ONE: ReadLimits = ReadLimits { changes_max: 1, bytes_max: 0 };

impl Engine {
    /// A future that is ready when the shape's log holds something after the offset `after`:
    /// committed, durable, and of this shape. It belongs to no runtime, costs no thread, and may
    /// outlive the engine. Polling it reads the log, from `after` on.
    ///
    /// Its waker is called on a thread of the engine's that wakes all others too: it must not
    /// block.
    pub fn news(&self, handle: Handle, after: Offset) -> News {
        self.inner.news(handle, after)
    }

    /// Waits until the shape's log holds something after the offset `after`. False: it did not in
    /// the time given.
    ///
    /// # Errors
    /// When the shape is gone, its log was cut or cannot be read, or the engine has failed or
    /// stopped.
    pub fn wait(
        &self,
        handle: Handle,
        after: Offset,
        timeout: Duration,
    ) -> Result<bool, ReadError> {
        let until = super::after(timeout);
        let parker = Parker::new();
        let waker = Waker::from(Arc::new(Unpark(parker.unparker().clone())));
        let mut news = self.news(handle, after);
        loop {
            match Pin::new(&mut news).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(found) => return found.map(|()| true),
                Poll::Pending if Instant::now() >= until => return Ok(false),
                Poll::Pending => parker.park_deadline(until),
            }
        }
    }

    /// Follows the shape's log from the offset `after` on.
    ///
    /// # Errors
    /// When there is no such shape.
    pub fn subscribe(&self, handle: Handle, after: Offset) -> Result<Subscription, ReadError> {
        if self.inner.control.registry.place(handle).is_none() {
            return Err(ReadError::Unknown { handle });
        }
        // One place: a signal that waits says all that there is to say.
        let (signal, signals) = bounded(1);
        // There may be something already.
        let _ = signal.try_send(());
        let waker = Waker::from(Arc::new(Signal(signal)));
        Ok(Subscription { news: self.news(handle, after), waker, signals })
    }
}

impl Inner {
    pub(super) fn news(self: &Arc<Inner>, handle: Handle, after: Offset) -> News {
        News { inner: Arc::downgrade(self), handle, after, seated: None }
    }
}

/// Something new in a shape's log, or why there will be nothing: see [`Engine::news`].
#[derive(Debug)]
pub struct News {
    inner: Weak<Inner>,
    handle: Handle,
    /// Nothing of the shape lies between what was asked for and this.
    after: Offset,
    seated: Option<Seated>,
}

impl Future for News {
    type Output = Result<(), ReadError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let news = &mut *self;
        let Some(inner) = news.inner.upgrade() else {
            return Poll::Ready(Err(Failure::Stopped.into()));
        };
        let Some(place) = inner.control.registry.place(news.handle) else {
            return Poll::Ready(Err(ReadError::Unknown { handle: news.handle }));
        };
        let waiters = &inner.control.waiters;
        let seat = (u32::from(place.shard), place.slot);
        news.seated = Some(waiters.register(seat, news.seated, context.waker()));
        // After it was registered: what comes from here on wakes it.
        match news.look(&inner).transpose() {
            None => Poll::Pending,
            Some(found) => {
                news.leave(&inner);
                Poll::Ready(found)
            }
        }
    }
}

impl News {
    /// The shape.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Whether there is something, or will be nothing.
    fn look(&mut self, inner: &Inner) -> Result<Option<()>, ReadError> {
        loop {
            let page = inner.read(self.handle, self.after, ONE)?;
            if !page.changes.is_empty() {
                return Ok(Some(()));
            }
            self.after = page.through;
            if page.up_to_date {
                inner.control.state.check()?;
                return Ok(None);
            }
        }
    }

    fn leave(&mut self, inner: &Inner) {
        if let Some(seated) = self.seated.take() {
            inner.control.waiters.leave(seated);
        }
    }
}

impl Drop for News {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            self.leave(&inner);
        }
    }
}

/// A reader that follows a shape's log and is told when there is more: see [`Engine::subscribe`].
#[derive(Debug)]
pub struct Subscription {
    news: News,
    waker: Waker,
    signals: Receiver<()>,
}

impl Subscription {
    /// Gets a signal when there may be something new, to be waited on together with other channels.
    /// It has one place, and there is a signal from the start. Then call [`Self::try_next`] until
    /// it gives nothing: only then the next signal comes.
    pub fn signals(&self) -> &Receiver<()> {
        &self.signals
    }

    /// The shape.
    pub fn handle(&self) -> Handle {
        self.news.handle
    }

    /// Everything at or below it was given.
    pub fn position(&self) -> Offset {
        self.news.after
    }

    /// The next page, with a change in it at least; `None` when there is nothing more for now.
    ///
    /// # Errors
    /// When the shape is gone, its log was cut or cannot be read, or when there is nothing more
    /// and the engine has failed or stopped.
    pub fn try_next(&mut self, limits: ReadLimits) -> Result<Option<Page>, ReadError> {
        loop {
            let stopped = || ReadError::Failed(Failure::Stopped);
            let inner = self.news.inner.upgrade().ok_or_else(stopped)?;
            let page = inner.read(self.news.handle, self.news.after, limits)?;
            self.news.after = page.through;
            if !page.changes.is_empty() {
                return Ok(Some(page));
            }
            if !page.up_to_date {
                continue;
            }
            // Before it is registered: a signal that comes after that stays.
            let _ = self.signals.try_recv();
            match Pin::new(&mut self.news).poll(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => return Ok(None),
                Poll::Ready(found) => found?,
            }
        }
    }

    /// The same, but waits for it. `None`: it did not come in the time given.
    ///
    /// # Errors
    /// As [`Self::try_next`].
    pub fn next(
        &mut self,
        limits: ReadLimits,
        timeout: Duration,
    ) -> Result<Option<Page>, ReadError> {
        let until = after(timeout);
        loop {
            let next = self.try_next(limits)?;
            if next.is_some() || Instant::now() >= until {
                return Ok(next);
            }
            // Its sender lies in the waker: it ends at a signal or at the deadline.
            let _ = self.signals.recv_deadline(until);
        }
    }
}

/// Wakes a thread.
struct Unpark(Unparker);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Puts a signal into a channel.
struct Signal(Sender<()>);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        // Full: one is there.
        let _ = self.0.try_send(());
    }
}
