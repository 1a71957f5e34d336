//! Open: from settings to a running engine: the store, what it recovered, the shards, the threads.

use super::builder::Builder;
use super::error::StartError;
use super::keeper::Keeper;
use super::publisher::Publisher;
use super::retain::Retainer;
use super::shapes::compiled;
use super::threads::{self, Parts, SealPart, SyncPart};
use super::{Engine, EngineLimits, Inner, ShardDoor};
use crate::catalog::{Catalog, CatalogError, Entry, Held, Mended};
use crate::consumer::{Foreign, Member, Recent, ShardLink};
use crate::control::{Control, Phase};
use crate::feed::Feeder;
use crate::log::{
    BLOCK_BYTES_MAX, Directory, Encoder, Floor, Log, RecoverError, Recovered, RecoveredShape,
    Storage, Syncer, Thinner, in_memory, recover,
};
use crate::report::{Dirty, Sleeper};
use crate::run::{Pool, Watch, WatchLimits};
use crate::shard::{
    Entering, Inbox, Limits, Opening, Prepared, Pump, Shard, Surroundings, frontier,
};
use crate::snapshot::{Door, Initial};
use crate::sync::AtomicU64;
use crate::words::{Handle, Lsn, Offset, Slot};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::{Mutex, RwLock};
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// Fragments that mail can refer to before its consumer has to go to the log.
const RECENT_FRAGMENTS: usize = 4_096;
/// Half of what one consumer may pin makes publish look whether the runners are behind (R17).
const SOFT_PART: u64 = 2;

/// A shape that a log holds, ready to be added again.
struct Reopened {
    slot: Slot,
    first: Offset,
    shape: Prepared,
}

/// What one shard starts from.
struct Store {
    encoder: Encoder,
    syncer: Syncer,
    log: Arc<Log>,
    shapes: Vec<RecoveredShape>,
    next_slot: Slot,
    max_handle: Option<Handle>,
    last_commit: Lsn,
    thinner: Option<Thinner>,
}

impl Store {
    fn new(found: Recovered, thinner: Option<Thinner>) -> Store {
        let Recovered { shapes, next_slot, max_handle, last_commit, encoder, syncer, log, .. } =
            found;
        Store { encoder, syncer, log, shapes, next_slot, max_handle, last_commit, thinner }
    }
}

/// An engine that is put together, and whose machines nobody pumps yet.
pub(super) struct Assembly {
    pub(super) inner: Arc<Inner>,
    pub(super) parts: Parts,
    pub(super) publisher: Publisher,
}

/// Starts an engine. The settings are in range.
pub(super) fn start(builder: &Builder) -> Result<(Engine, Publisher), StartError> {
    let Assembly { inner, parts, publisher } = assemble(builder, Instant::now())?;
    let threads = threads::start(&inner.control, &inner.pool, parts);
    // Those that were started before one that was not.
    let threads = threads.inspect_err(|_| inner.control.state.advance(Phase::Ended))?;
    Ok((Engine { inner, threads: Mutex::new(Some(threads)) }, publisher))
}

/// Opens the store, and puts the machines together.
pub(super) fn assemble(builder: &Builder, now: Instant) -> Result<Assembly, StartError> {
    let directory = match &builder.directory {
        Some(path) => Some(Arc::new(Directory::open(path, builder.shards as u32)?)),
        None => None,
    };
    let (stores, floor) = stores(builder, directory.as_deref())?;
    let rows = directory.as_ref().map(|directory| directory.snapshots()).transpose()?;
    put_together(builder, now, (directory, rows), stores, floor)
}

/// Puts the machines together, over a simulated disk.
#[cfg(all(any(test, feature = "testing"), not(loom)))]
pub(super) fn assemble_simulated(
    builder: &Builder,
    now: Instant,
    (disk, rows): (&crate::log::SimulatedDisk, &crate::log::SimulatedDisk),
    floor: Lsn,
) -> Result<Assembly, StartError> {
    let shards = builder.shards as u32;
    let stores = (0..shards).map(|shard| {
        let found = disk.recover(shard, shards, builder.retention());
        found
            .map(|(found, thinner)| Store::new(found, thinner))
            .map_err(|error| StartError::Log { shard: shard as usize, cause: error.to_string() })
    });
    let stores = stores.collect::<Result<_, _>>()?;
    let rows: Rows = (Arc::new(rows.clone()), 7);
    put_together(builder, now, (None, Some(rows)), stores, Floor::kept(floor))
}

/// Where initial rows lie, and what their checksums start from.
type Rows = (Arc<dyn Storage>, u32);

fn put_together(
    builder: &Builder,
    now: Instant,
    (directory, rows): (Option<Arc<Directory>>, Option<Rows>),
    mut stores: Vec<Store>,
    floor: Floor,
) -> Result<Assembly, StartError> {
    // The floor is the end of a commit's record, and the next commit may start right there.
    let confirmed = floor.get().previous();
    let last_commit = stores.iter().map(|store| store.last_commit).max().unwrap_or(Lsn::ZERO);
    let max_handle = stores.iter().filter_map(|store| store.max_handle).max();
    let shapes = stores.iter_mut().map(|store| reopen(builder, std::mem::take(&mut store.shapes)));
    let mut shapes = shapes.collect::<Result<Vec<_>, _>>()?;
    let next_handle = Handle::new(max_handle.map_or(0, |handle| handle.as_u64() + 1));
    let Kept { catalog, door, next_handle } =
        kept(directory.as_ref(), rows, &mut shapes, next_handle)?;
    let shapes: Vec<_> = shapes.into_iter().enumerate().map(placed).collect();
    let frontiers = stores.iter().zip(&shapes);
    let frontiers = frontiers.map(|(store, shapes)| frontier(shapes, store.last_commit, confirmed));
    let control = Arc::new(Control::new(frontiers.collect(), builder.fragment_credits));
    enter(&control, &shapes);

    let wires: Vec<Wire> = (0..builder.shards).map(Wire::new).collect();
    let links: Arc<[_]> = wires.iter().map(|wire| Arc::clone(&wire.link)).collect();
    let feeders = wires.iter().zip(&stores).map(|(wire, store)| {
        Feeder::new(Arc::clone(&wire.link), Arc::clone(&store.log), wire.members.clone())
    });
    let pool = Arc::new(Pool::new(feeders.collect(), builder.runners));
    let ((to_watch, watched), (to_keeper, gone)) = (unbounded(), unbounded());
    let retainer = retainer(&mut stores, &control, directory.as_ref());
    let surroundings = Surroundings {
        control: Arc::clone(&control),
        pool: Arc::clone(&pool),
        watched: to_watch,
        gone: catalog.is_some().then_some(to_keeper),
    };

    let (to_seal, wanted) = bounded(1);
    let sealer = sealer(&stores, wanted, directory.as_ref());
    let (mut doors, mut pumps, mut syncers, mut pulses) = (vec![], vec![], vec![], vec![]);
    for ((wire, store), shapes) in wires.into_iter().zip(stores).zip(shapes) {
        let to_seal = to_seal.clone();
        let opened = open_shard(builder, &surroundings, wire, store, shapes, confirmed, to_seal);
        let (door, opening, inbox, mut syncer) = opened;
        syncer.directory = directory.clone();
        let shard = Shard::open(opening, now);
        pulses.push(Arc::clone(shard.pulse()));
        pumps.push(Pump::new(shard, inbox, now));
        doors.push(door);
        syncers.push(syncer);
    }
    let (limits, runners) = (watch_limits(builder), builder.runners);
    let watch = Watch::new(limits, watched, pulses, Arc::clone(&control), Arc::clone(&pool), now);
    let keeper = catalog.clone().zip(door.clone()).zip(directory.clone());
    let keeper = keeper.map(|(kept, directory)| Keeper::new(gone, kept, directory));
    let parts = Parts { pumps, syncers, watch, sealer, keeper, retainer, runners, links };
    let inner = Arc::new(Inner {
        control,
        pool,
        shards: doors.into(),
        next_handle: AtomicU64::new(next_handle),
        floor: Mutex::new(floor),
        limits: engine_limits(builder),
        catalog,
        door,
        directory,
        durable_only: RwLock::new(false),
    });
    Ok(Assembly { publisher: Publisher::new(Arc::clone(&inner), last_commit), inner, parts })
}

fn sealer(
    stores: &[Store],
    wanted: Receiver<()>,
    directory: Option<&Arc<Directory>>,
) -> Option<SealPart> {
    let logs = stores.iter().map(|store| Arc::clone(&store.log)).collect();
    let directory = directory.cloned();
    directory.map(|directory| SealPart { logs, wanted, _directory: directory })
}

fn retainer(
    stores: &mut [Store],
    control: &Arc<Control>,
    directory: Option<&Arc<Directory>>,
) -> Option<Retainer> {
    let thinners = stores.iter_mut().map(|store| store.thinner.take());
    Retainer::new(thinners.collect(), Arc::clone(control), directory.cloned())
}

fn watch_limits(builder: &Builder) -> WatchLimits {
    WatchLimits {
        consumer_deadline: builder.consumer_deadline,
        factory_timeout: builder.factory_timeout,
        lease_max: builder.lease_max,
        runners: builder.runners,
    }
}

fn engine_limits(builder: &Builder) -> EngineLimits {
    let in_memory = builder.directory.is_none();
    EngineLimits {
        unflushed_bytes_soft_max: builder.consumer_bytes_max / SOFT_PART,
        transaction_bytes_max: if in_memory { memory_share(builder) } else { u64::MAX },
    }
}

/// What of the memory store is one shard's. Each may have to keep all of a transaction.
fn memory_share(builder: &Builder) -> u64 {
    builder.memory_bytes_max / builder.shards as u64
}

/// What of a shard others need before it is there.
struct Wire {
    number: usize,
    link: Arc<ShardLink>,
    sleeper: Sleeper,
    members: Receiver<Member>,
}

impl Wire {
    fn new(number: usize) -> Wire {
        let (sleeper, wake) = Sleeper::new();
        let (to_feeder, members) = unbounded();
        let recent = Recent::new(RECENT_FRAGMENTS);
        let link = Arc::new(ShardLink::new(number, recent, wake, to_feeder));
        Wire { number, link, sleeper, members }
    }
}

fn open_shard(
    builder: &Builder,
    surroundings: &Surroundings,
    wire: Wire,
    store: Store,
    shapes: Vec<Entering>,
    confirmed: Lsn,
    to_seal: Sender<()>,
) -> (ShardDoor, Opening, Inbox, SyncPart) {
    let Wire { number, link, sleeper, .. } = wire;
    // The last place is for Stop.
    let places = builder.fragment_credits + builder.lifecycle_credits + 1;
    let (to_shard, messages) = bounded(places);
    let (take_credit, lifecycle_credits) = bounded(builder.lifecycle_credits);
    let (to_sync, batches) = bounded(1);
    let (to_back, synced) = bounded(1);
    let in_memory = builder.directory.is_none();
    let share = memory_share(builder);
    let limits = Limits {
        mailbox_places: builder.mailbox_places,
        consumer_bytes_max: match in_memory {
            true => builder.consumer_bytes_max.min(share),
            false => builder.consumer_bytes_max,
        },
        memory_bytes_max: in_memory.then_some(share),
        restarts_per_second: builder.restarts_per_second.div_ceil(builder.shards as u32),
    };
    let door = ShardDoor {
        messages: to_shard,
        lifecycle_credits: take_credit,
        link: Arc::clone(&link),
        log: Arc::clone(&store.log),
    };
    let sync = SyncPart {
        syncer: store.syncer,
        batches,
        synced: to_back,
        link: Arc::clone(&link),
        to_seal,
        directory: None,
    };
    let opening = Opening {
        number,
        limits,
        surroundings: surroundings.clone(),
        link,
        dirty: Dirty::new(),
        log: store.log,
        encoder: store.encoder,
        to_sync,
        shapes,
        next_slot: store.next_slot,
        last_commit: store.last_commit,
        confirmed,
    };
    (door, opening, Inbox { messages, lifecycle_credits, synced, sleeper }, sync)
}

/// Compiles the shapes that a log holds, against the tables that it holds with them.
fn reopen(builder: &Builder, shapes: Vec<RecoveredShape>) -> Result<Vec<Reopened>, StartError> {
    let shapes = shapes.into_par_iter().map(|shape| {
        let RecoveredShape { slot, handle, first, relation, definition, awaits_snapshot } = shape;
        let found = compiled(&relation, &definition);
        let (predicate, view) = found.map_err(|source| StartError::Shape { handle, source })?;
        let consumer = Foreign::new((builder.consumers)(handle, &definition));
        let definition = Arc::new(definition);
        let initial = if awaits_snapshot { Initial::Awaited } else { Initial::None };
        let shape = Prepared { handle, definition, relation, predicate, view, consumer, initial };
        Ok(Reopened { slot, first, shape })
    });
    shapes.collect()
}

/// What is kept beside the logs; nothing without a directory.
struct Kept {
    catalog: Option<Arc<Catalog>>,
    door: Option<Arc<Door>>,
    /// No handle from this one on was given out.
    next_handle: u64,
}

/// Opens the directory's catalog and the shapes' initial rows, and makes both say what the logs say
/// (R3): these have the living shapes, and no handles from `next_handle` on. The catalog may know
/// of higher ones, of shapes that the logs have forgotten.
fn kept(
    directory: Option<&Arc<Directory>>,
    rows: Option<Rows>,
    shapes: &mut [Vec<Reopened>],
    next_handle: Handle,
) -> Result<Kept, StartError> {
    let Some(directory) = directory else {
        let door = rows.map(|rows| door(rows, shapes, &Held::default())).transpose()?;
        let (door, next_handle) = (door.map(Arc::new), next_handle.as_u64());
        return Ok(Kept { catalog: None, door, next_handle });
    };
    let error = |error: CatalogError| StartError::Catalog { cause: error.to_string() };
    let (catalog, held) = Catalog::open(directory).map_err(error)?;
    let next_handle = next_handle.max(held.next_handle());
    let door = rows.map(|rows| door(rows, shapes, &held)).transpose()?;
    let living = shapes.iter().enumerate().flat_map(|(shard, shapes)| {
        shapes.iter().map(move |Reopened { slot, first, shape }| {
            let (shard, slot, first) = (shard as u32, *slot, *first);
            let Prepared { handle, definition, initial, .. } = shape;
            (*handle, Entry { shard, slot, first, definition, initial })
        })
    });
    let mended = catalog.reconcile(held, living, next_handle).map_err(error)?;
    if mended != Mended::default() {
        let Mended { put, taken } = mended;
        tracing::info!(put, taken, "the catalog was made to say what the logs say");
    }
    let (catalog, door) = (Some(Arc::new(catalog)), door.map(Arc::new));
    Ok(Kept { catalog, door, next_handle: next_handle.as_u64() })
}

/// Finds the initial rows of the shapes that were added to be given some, and deletes the others.
fn door(
    (folder, seed): Rows,
    shapes: &mut [Vec<Reopened>],
    held: &Held,
) -> Result<Door, StartError> {
    let path = folder.path_of("");
    let listed = Door::open(folder, seed);
    let (door, listing) = listed.map_err(|source| StartError::Snapshots {
        cause: format!("{path}: listing failed: {source}; see to the disk, then restart"),
    })?;
    let mut complete = HashMap::new();
    for shape in shapes.iter_mut().flatten().map(|reopened| &mut reopened.shape) {
        if !shape.initial.is_awaited() {
            continue;
        }
        let snapshot = match held.snapshot(shape.handle) {
            Some(known) => Some(Arc::clone(known)),
            None => door
                .complete(&listing, shape.handle)
                .map_err(|error| StartError::Snapshots { cause: error.to_string() })?
                .map(Arc::new),
        };
        if let Some(snapshot) = snapshot {
            complete.insert(shape.handle, snapshot.attempt);
            shape.initial = Initial::Complete(snapshot);
        }
    }
    door.clear_up(listing, |handle| complete.get(&handle).copied());
    Ok(door)
}

/// Gives the shapes of a shard their places.
fn placed((shard, shapes): (usize, Vec<Reopened>)) -> Vec<Entering> {
    let place = |Reopened { slot, first, shape }: Reopened| shape.placed(shard, slot, first);
    shapes.into_par_iter().map(place).collect()
}

/// Makes the shapes of a directory, and their tables, known to callers.
fn enter(control: &Control, shapes: &[Vec<Entering>]) {
    for (number, shapes) in shapes.iter().enumerate() {
        control.registry.enter(shapes.iter().map(Entering::place));
        control.counters[number].shapes.add(shapes.len() as u64);
        let mut learnt = None;
        for relation in shapes.iter().map(|shape| &shape.shape.relation) {
            // They share pointers, so nearly all are the one before.
            if learnt.replace(Arc::as_ptr(relation)) != Some(Arc::as_ptr(relation)) {
                control.registry.learn(Arc::clone(relation));
            }
        }
    }
}

/// In unit tests the short runs of the simulator are to span many blocks, and so are transactions.
const BLOCK_BYTES: usize = if cfg!(test) { 600 } else { BLOCK_BYTES_MAX };

/// Opens each shard's log, in parallel, and the floor.
fn stores(
    builder: &Builder,
    directory: Option<&Directory>,
) -> Result<(Vec<Store>, Floor), StartError> {
    let Some(directory) = directory else {
        let new = |_| {
            let (encoder, syncer, log) = in_memory(BLOCK_BYTES);
            let (shapes, next_slot) = (Vec::new(), Slot::new(0));
            let last_commit = Lsn::ZERO;
            let (max_handle, thinner) = (None, None);
            Store { encoder, syncer, log, shapes, next_slot, max_handle, last_commit, thinner }
        };
        return Ok(((0..builder.shards).map(new).collect(), Floor::in_memory()));
    };
    let stores = (0..builder.shards).into_par_iter().map(|shard| {
        let opened = open_log(builder, directory, shard as u32);
        opened.map_err(|error| StartError::Log { shard, cause: error.to_string() })
    });
    let stores = stores.collect::<Result<_, StartError>>()?;
    let floor = directory.floor();
    let floor = floor.map_err(|error| StartError::Floor { cause: error.to_string() })?;
    Ok((stores, floor))
}

fn open_log(builder: &Builder, directory: &Directory, shard: u32) -> Result<Store, RecoverError> {
    let (segment_bytes, block_bytes) = builder.log_sizes();
    let block_bytes = block_bytes.min(BLOCK_BYTES);
    let segments = directory.segments(shard, segment_bytes)?;
    let files = segments.files();
    let found = recover(Box::new(segments), &directory.identity(shard), block_bytes)?;
    let log = Arc::clone(&found.log);
    let thinner = builder.retention().map(|it| Thinner::new(log, files, it, block_bytes));
    Ok(Store::new(found, thinner))
}
