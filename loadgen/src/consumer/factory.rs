//! Factory of counting consumers: one a shape, because a factory learns its shape's handle only,
//! and handles are not known before the shapes are added.

use super::counting::Counting;
use super::kill::{KillKind, Order, kill};
use super::population::Population;
use std::sync::Arc;
use walfan::{ConsumerError, Factory, Offset, Start, Started};

/// See the file's head.
#[derive(Debug)]
pub(crate) struct CountingFactory {
    population: Arc<Population>,
    shape: u32,
}

impl CountingFactory {
    pub(crate) fn new(population: Arc<Population>, shape: u32) -> CountingFactory {
        CountingFactory { population, shape }
    }

    /// Bytes that loadgen itself holds for each shape while it runs: the factory with its counts,
    /// and the consumer, both as the allocator rounds them.
    pub(crate) fn own_bytes() -> u64 {
        let factory = size_of::<CountingFactory>() + 2 * size_of::<usize>();
        (factory.next_multiple_of(16) + size_of::<Counting>().next_multiple_of(16)) as u64
    }
}

impl Factory for CountingFactory {
    fn start(&self, start: &Start<'_>) -> Result<Started, ConsumerError> {
        let population = &self.population;
        if population.order_byte(self.shape) == Order::FailStart.byte() {
            population.set_order(self.shape, Order::Live);
            population.kills.fail_start();
            kill(KillKind::Factory);
        }
        let prefix = population.prefix(self.shape);
        let resume = start.resume();
        // The engine may know of more: that nothing of this shape came in between. The sums at
        // the end would show it if that were wrong. Less would be a report that was forgotten.
        if resume < Offset::commit_mark(prefix.through) && prefix.changes > 0 {
            population.complain(format!(
                "shape {}: its next consumer is to resume at {resume}, but {} was reported",
                self.shape, prefix.through
            ));
        }
        let incarnation = population.born(self.shape);
        let population = Arc::clone(population);
        let consumer = Counting::new(population, self.shape, resume, prefix, incarnation);
        Ok(Started::new(Box::new(consumer), resume))
    }
}
