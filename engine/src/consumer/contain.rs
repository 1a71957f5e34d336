//! Contain: code of the embedder's on threads of the engine. A panic of it ends here, as a text:
//! also one of a destructor, of an error that is written down, and of what was panicked with.

use super::api::ConsumerError;
use std::any::Any;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of the embedder's; what its panic said, if it panicked.
#[inline]
pub(crate) fn contain<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(panic_text)
}

/// What a panic said. What it was made with is dropped, and that may panic too.
pub(crate) fn panic_text(panic: Box<dyn Any + Send>) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    if let Err(again) = catch_unwind(AssertUnwindSafe(move || drop(panic))) {
        // It could go on like this for ever.
        std::mem::forget(again);
    }
    match text {
        Some(text) => format!("panicked: {text}"),
        None => "panicked".to_owned(),
    }
}

/// What an error says, and its end.
pub(crate) fn cause_text(cause: ConsumerError) -> String {
    let text = contain(|| cause.to_string());
    drop_contained(cause);
    text.unwrap_or_else(|panic| format!("an error that cannot be written down: it {panic}"))
}

/// Drops something of the embedder's.
pub(crate) fn drop_contained<T>(value: T) {
    drop(contain(move || drop(value)));
}

/// Something of the embedder's that threads of the engine own, wherever it is dropped.
pub(crate) struct Foreign<T>(Option<T>);

impl<T> Foreign<T> {
    pub(crate) fn new(value: T) -> Foreign<T> {
        Foreign(Some(value))
    }
}

impl<T> Deref for Foreign<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => unreachable!("it is taken when it is dropped"),
        }
    }
}

impl<T> Drop for Foreign<T> {
    fn drop(&mut self) {
        drop_contained(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;
    use std::panic::panic_any;

    /// Panics when it is dropped, with another one of `0` more.
    struct Bad(u32);

    impl Drop for Bad {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Bad(self.0 - 1));
            }
            panic!("dropped");
        }
    }

    #[derive(Debug)]
    struct BadError;

    impl fmt::Display for BadError {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("unspeakable")
        }
    }

    impl std::error::Error for BadError {}

    #[test]
    fn every_panic_ends_as_a_text() {
        assert_eq!(contain(|| 7), Ok(7));
        assert_eq!(contain(|| panic!("{}", "boom")), Err::<(), _>("panicked: boom".to_owned()));
        for depth in [0, 1, 5] {
            assert_eq!(contain(|| panic_any(Bad(depth))), Err::<(), _>("panicked".to_owned()));
            drop_contained(Bad(depth));
            drop(Foreign::new(Bad(depth)));
        }
        assert!(cause_text(Box::new(BadError)).ends_with("it panicked: unspeakable"));
        assert_eq!(cause_text("plain".into()), "plain");
    }
}
