//! For whom a batch has something new: for everyone whose changes it made readable, and while no
//! transaction stays open for nobody else.

use super::super::in_memory;
use super::world::{Op, World, op};
use proptest::prelude::*;
use roaring::RoaringBitmap;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn news_are_told_to_whom_something_became_readable(
        ops in prop::collection::vec(op(), 1..80), block_bytes in 0usize..1500,
    ) {
        let all = RoaringBitmap::full();
        let mut world = World::new(in_memory(block_bytes));
        let mut across = false;
        for op in ops.iter().chain([&Op::Sync]) {
            world.apply(op);
            if !matches!(op, Op::Sync) {
                continue;
            }
            let told = world.syncer.take_news().among(&all);
            let new = world.take_newly_durable();
            prop_assert!(new.is_subset(&told), "{new:?} of {told:?}");
            // What a batch that ends inside a transaction holds may be told of twice.
            if !across && !world.is_inside() {
                prop_assert_eq!(new, told);
            }
            across = world.is_inside();
        }
    }
}
