//! Reading equals a list of everything, from every position, while the log grows.

use super::super::device::{Device, MemoryDevice, ReadAt};
use super::super::store::on_empty;
use super::super::{LogError, ReadLimits, in_memory, read_shape};
use super::file::{Folder, reopen};
use super::world::{World, op};
use crate::words::{Handle, Lsn, Offset, Relation, ShapeDefinition, Slot, TableName};
use proptest::prelude::*;
use std::sync::Arc;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_position_reads_what_was_logged_after_it(
        ops in prop::collection::vec(op(), 1..80), block_bytes in 0usize..3000, file: bool,
    ) {
        let folder = Folder::new();
        let parts =
            if file { reopen(&folder, block_bytes).parts() } else { in_memory(block_bytes) };
        let mut world = World::new(parts);
        for (index, op) in ops.iter().enumerate() {
            world.apply(op);
            if index % 16 == 0 {
                world.check();
            }
        }
        world.sync();
        world.check();
    }

    #[test]
    fn trimming_drops_the_front_and_nothing_else(
        ops in prop::collection::vec(op(), 1..80), block_bytes in 0usize..1500,
    ) {
        let mut world = World::new(in_memory(block_bytes));
        for (index, op) in ops.iter().enumerate() {
            world.apply(op);
            if index % 8 == 0 {
                let through = Lsn::new(100 + index as u64 * 3);
                let held = world.log.trim(through);
                prop_assert_eq!(held, world.log.bytes());
                prop_assert!(world.log.start() <= Offset::commit_mark(through));
                world.check();
            }
        }
        let before = Offset::ZERO;
        if world.log.start() > before {
            let refused = matches!(world.log.read(before), Err(LogError::BelowStart { .. }));
            prop_assert!(refused);
            let page = read_shape(&world.log, Slot::new(0), before, ReadLimits::default());
            let refused = matches!(page, Err(LogError::BelowStart { .. }));
            prop_assert!(refused);
        }
    }
}

/// Fails at its `left`th write or sync.
struct Failing {
    device: MemoryDevice,
    left: usize,
}

impl Failing {
    fn step(&mut self) -> std::io::Result<()> {
        let left = self.left.checked_sub(1).ok_or(std::io::ErrorKind::StorageFull)?;
        self.left = left;
        Ok(())
    }
}

impl Device for Failing {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.step()?;
        self.device.append(bytes)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.step()
    }

    fn len(&self) -> u64 {
        self.device.len()
    }

    fn truncate(&mut self, len: u64) -> std::io::Result<()> {
        self.device.truncate(len)
    }

    fn reader(&self) -> std::sync::Arc<dyn ReadAt> {
        self.device.reader()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn nothing_is_published_past_a_failed_write_or_sync(
        ops in prop::collection::vec(op(), 20..60), left in 0usize..8,
    ) {
        let device = Failing { device: MemoryDevice::default(), left };
        let mut world = World::new(on_empty(Box::new(device), 300));
        let mut failed = false;
        for op in &ops {
            world.apply(op.unless_sync());
            let batch = world.take();
            match world.syncer.commit(&batch) {
                Ok(()) => {
                    prop_assert!(!failed);
                    world.synced();
                }
                Err(LogError::Failed { .. }) => prop_assert!(failed),
                Err(LogError::Full { .. }) => {
                    prop_assert!(!failed);
                    failed = true;
                }
                Err(error) => panic!("{error}"),
            }
            world.check();
        }
    }
}

#[test]
fn a_batch_out_of_order_is_refused() {
    let mut world = World::new(in_memory(300));
    let definition = ShapeDefinition::table(TableName::new("s", "t"));
    let (slot, handle) = (Slot::new(0), Handle::new(1));
    let relation = Arc::new(Relation::new(1, definition.table.clone(), Vec::new()));
    world.encoder.add_shape(slot, handle, Offset::ZERO, &relation, (&definition, false)).unwrap();
    let batch = world.take();
    world.syncer.commit(&batch).unwrap();
    assert!(matches!(world.syncer.commit(&batch), Err(LogError::OutOfOrder { .. })));
    assert!(matches!(
        world.syncer.commit(&world.encoder.take(Vec::new())),
        Err(LogError::Failed { .. })
    ));
}
