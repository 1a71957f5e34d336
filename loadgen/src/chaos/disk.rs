//! Disk: a small file system of a round's own, where the machine lets one be mounted, with a
//! ballast that leaves as much room as the round wants.

use rustix::fs::statvfs;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// All of it.
const BYTES: u64 = 64 << 20;

/// See the file's head. What is on it goes with it.
#[derive(Debug)]
pub(super) struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one at `path`, which is made.
    pub(super) fn mount(path: &Path) -> io::Result<SmallDisk> {
        fs::create_dir_all(path)?;
        let size = CString::new(format!("size={BYTES}"))?;
        mount("walfan-chaos", path, "tmpfs", MountFlags::empty(), size.as_c_str())?;
        Ok(SmallDisk { path: path.to_owned() })
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Fills it, all but `room` bytes.
    pub(super) fn fill(&self, room: u64) -> io::Result<()> {
        let stat = statvfs(&self.path)?;
        let free = (stat.f_bavail * stat.f_frsize).saturating_sub(room);
        let mut ballast = File::create(self.ballast())?;
        io::copy(&mut io::Read::take(io::repeat(0), free), &mut ballast).map(|_| ())
    }

    /// Gives the room back.
    pub(super) fn empty(&self) -> io::Result<()> {
        fs::remove_file(self.ballast())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.path, UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", self.path.display());
        }
    }
}

/// Whether one can be mounted in `directory`.
pub(super) fn is_allowed(directory: &Path) -> bool {
    SmallDisk::mount(&directory.join("trial")).is_ok()
}
