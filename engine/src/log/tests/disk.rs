//! A disk that remembers in which order it was written to, and what was synced: it can be cut off
//! at any moment, with any part of what was not synced, and fails when it is told to.

use super::super::device::{Device, ReadAt, Storage};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What a disk writes as a whole. Real ones write 512 bytes at least; our batches are small.
const SECTOR_BYTES: usize = 32;

type Files = BTreeMap<usize, Vec<u8>>;
type Names = BTreeMap<String, usize>;
/// What lies on a disk, by name.
pub(crate) type Contents = BTreeMap<String, Vec<u8>>;

#[derive(Clone, Debug)]
pub(super) enum Event {
    Append(usize, Vec<u8>),
    Sync(usize),
    /// The names as they are now.
    Name(Names),
    SyncNames,
}

#[derive(Debug, Default)]
struct State {
    files: Files,
    names: Names,
    /// As they were before the first event.
    first_names: Names,
    events: Vec<Event>,
    /// After so many operations more the disk fails, for good.
    left: Option<usize>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
}

impl Disk {
    pub(crate) fn holding(contents: &Contents) -> Disk {
        let disk = Disk::default();
        let mut state = disk.state.lock();
        for (id, (name, bytes)) in contents.iter().enumerate() {
            state.files.insert(id, bytes.clone());
            state.names.insert(name.clone(), id);
        }
        state.first_names = state.names.clone();
        drop(state);
        disk
    }

    pub(crate) fn contents(&self) -> Contents {
        let state = self.state.lock();
        contents(&state.files, &state.names)
    }

    pub(crate) fn events(&self) -> usize {
        self.state.lock().events.len()
    }

    pub(crate) fn fail_after(&self, operations: usize) {
        self.state.lock().left = Some(operations);
    }

    pub(super) fn heal(&self) {
        self.state.lock().left = None;
    }

    pub(super) fn remove(&self, name: &str) {
        self.state.lock().names.remove(name).unwrap();
    }

    /// Changes one byte, behind everybody's back.
    pub(super) fn damage(&self, name: &str, at: usize) {
        let mut state = self.state.lock();
        let id = state.names[name];
        state.files.get_mut(&id).unwrap()[at] ^= 1;
    }

    /// Every state in which a power cut after `events` events may leave the disk, as far as `masks`
    /// tell which sectors of what was not synced are there; `every` how many bytes it may be torn.
    pub(crate) fn cut(&self, events: usize, masks: &[u64], every: usize) -> Vec<Contents> {
        let state = self.state.lock();
        let mut cut = Cut::new(&state);
        state.events.iter().take(events).for_each(|event| cut.apply(event));
        let mut states = Vec::new();
        // What is removed may be so before what was renamed earlier has its name.
        let is_left = |(name, _): &(&String, &usize)| cut.names.contains_key(*name);
        let synced = cut.synced_names.iter().filter(is_left);
        let removed = synced.map(|(name, id)| (name.clone(), *id)).collect();
        for names in [&cut.synced_names, &cut.names, &removed] {
            states.push(contents(&cut.synced, names));
            states.push(contents(&cut.files, names));
        }
        for mask in masks {
            let holes = |(id, bytes): (&usize, &Vec<u8>)| {
                (*id, with_holes(cut.synced.get(id).map_or(0, Vec::len), bytes, *mask))
            };
            states.push(contents(&cut.files.iter().map(holes).collect(), &cut.names));
        }
        if let Some(Event::Append(id, bytes)) = state.events.get(events) {
            for len in (0..bytes.len()).step_by(every) {
                let mut torn = cut.files.clone();
                torn.entry(*id).or_default().extend(&bytes[..len]);
                states.push(contents(&torn, &cut.names));
            }
        }
        states.sort();
        states.dedup();
        states
    }

    fn step(&self, event: Event) -> io::Result<()> {
        let mut state = self.state.lock();
        if let Some(left) = &mut state.left {
            *left = left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        }
        let mut next = Cut { files: std::mem::take(&mut state.files), ..Cut::default() };
        next.apply(&event);
        state.files = next.files;
        if let Event::Name(names) = &event {
            state.names = names.clone();
        }
        state.events.push(event);
        Ok(())
    }

    fn names_with(&self, change: impl FnOnce(&mut Names)) -> Names {
        let mut names = self.state.lock().names.clone();
        change(&mut names);
        names
    }

    fn file(&self, id: usize, name: &str) -> Box<dyn Device> {
        Box::new(File { disk: self.clone(), id, name: name.to_owned() })
    }
}

fn contents(files: &Files, names: &Names) -> Contents {
    let content = |id| files.get(id).cloned().unwrap_or_default();
    names.iter().map(|(name, id)| (name.clone(), content(id))).collect()
}

/// `bytes`, of which the disk wrote behind `synced` only the sectors that `mask` names.
fn with_holes(synced: usize, bytes: &[u8], mask: u64) -> Vec<u8> {
    let mut disk = bytes.to_vec();
    for (at, byte) in disk.iter_mut().enumerate().skip(synced) {
        if mask >> (at / SECTOR_BYTES % 64) & 1 == 0 {
            *byte = 0;
        }
    }
    disk
}

/// What a disk holds and what of it is synced, event by event.
#[derive(Default)]
struct Cut {
    files: Files,
    names: Names,
    synced: Files,
    synced_names: Names,
}

impl Cut {
    /// As it was before the first event.
    fn new(state: &State) -> Cut {
        let mut files = state.files.clone();
        let names = state.first_names.clone();
        for event in state.events.iter().rev() {
            match event {
                Event::Append(id, bytes) => {
                    let file = files.entry(*id).or_default();
                    file.truncate(file.len().saturating_sub(bytes.len()));
                }
                Event::Name(_) | Event::Sync(_) | Event::SyncNames => {}
            }
        }
        Cut { synced: files.clone(), synced_names: names.clone(), files, names }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Append(id, bytes) => self.files.entry(*id).or_default().extend(bytes),
            Event::Sync(id) => {
                let bytes = self.files.get(id).cloned().unwrap_or_default();
                self.synced.insert(*id, bytes);
            }
            Event::Name(names) => self.names.clone_from(names),
            Event::SyncNames => self.synced_names.clone_from(&self.names),
        }
    }
}

impl Storage for Disk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.state.lock().names.keys().cloned().collect())
    }

    fn path_of(&self, name: &str) -> String {
        format!("disk/{name}")
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Device>> {
        let id = self.state.lock().names.get(name).copied();
        Ok(self.file(id.ok_or(io::ErrorKind::NotFound)?, name))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Device>> {
        let id = self.state.lock().files.keys().last().map_or(0, |last| last + 1);
        self.step(Event::Append(id, Vec::new()))?;
        let names = self.names_with(|names| {
            names.insert(name.to_owned(), id);
        });
        self.step(Event::Name(names))?;
        Ok(self.file(id, name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let names = self.names_with(|names| {
            let id = names.remove(from).unwrap();
            names.insert(to.to_owned(), id);
        });
        self.step(Event::Name(names))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut there = false;
        let names = self.names_with(|names| there = names.remove(name).is_some());
        match there {
            true => self.step(Event::Name(names)),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn modified(&self, _name: &str) -> io::Result<Duration> {
        Ok(Duration::ZERO)
    }

    fn sync(&self) -> io::Result<()> {
        self.step(Event::SyncNames)
    }
}

struct File {
    disk: Disk,
    id: usize,
    name: String,
}

impl Device for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.step(Event::Append(self.id, bytes.to_vec()))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.step(Event::Sync(self.id))
    }

    fn len(&self) -> u64 {
        self.disk.state.lock().files[&self.id].len() as u64
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.files.get_mut(&self.id).unwrap().truncate(len as usize);
        Ok(())
    }

    fn reader(&self) -> Arc<dyn ReadAt> {
        Arc::new(File { disk: self.disk.clone(), id: self.id, name: self.name.clone() })
    }
}

impl ReadAt for File {
    fn name(&self) -> &str {
        &self.name
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        let state = self.disk.state.lock();
        let bytes = &state.files[&self.id];
        let held = bytes.get(position as usize..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(held.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn release(&self, _position: u64) -> bool {
        false
    }
}
