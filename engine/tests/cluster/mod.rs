//! Cluster: a throwaway Postgres with logical replication on, for tests and for load runs.
//!
//! Made from the Postgres that is installed (PATH, or Debian's /usr/lib/postgresql), in a directory
//! of its own, reachable by a unix socket only, stopped and deleted when dropped. As root it runs
//! as the system user `postgres`, since Postgres refuses root. SQL goes through `psql`, so that
//! whoever includes this file needs no Postgres client of its own. It knows nothing of walfan.
#![allow(dead_code, reason = "who includes it uses a part of it")]

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where Debian keeps the servers, one directory a version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// How long the server may take to start or to stop.
const START_MAX: Duration = Duration::from_secs(60);
/// What a session prints after each answer.
const END_OF_ANSWER: &str = "--walfan-end-of-answer--";

/// A running server.
#[derive(Debug)]
pub(crate) struct Cluster {
    tools: Tools,
    /// Holds the data, the socket and the server's log.
    directory: PathBuf,
    server: Child,
    settings: Vec<String>,
}

impl Cluster {
    /// Makes and starts a server with `wal_level = logical` and `settings` (`name=value`).
    pub(crate) fn start(settings: &[&str]) -> io::Result<Cluster> {
        let tools = Tools::find()?;
        let directory = tools.make_directory()?;
        let made = tools.run(
            "initdb",
            &[
                "--pgdata",
                &data(&directory),
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
        );
        let settings: Vec<_> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let server = made.and_then(|_| tools.serve(&directory, &settings));
        let server = server.inspect_err(|_| {
            let _ = std::fs::remove_dir_all(&directory);
        })?;
        Ok(Cluster { tools, directory, server, settings })
    }

    /// How to connect, for libpq.
    pub(crate) fn conninfo(&self) -> String {
        self.conninfo_of("postgres")
    }

    /// How to connect as `role`.
    pub(crate) fn conninfo_of(&self, role: &str) -> String {
        format!("host={} dbname=postgres user={role}", self.directory.display())
    }

    /// Runs `sql` in a connection of its own and gives its rows, columns joined by `|`.
    pub(crate) fn sql(&self, sql: &str) -> io::Result<String> {
        let output = self.tools.psql(&self.conninfo()).args(["-c", sql]).output()?;
        answer("psql", &output.status, &output.stdout, &output.stderr)
    }

    /// Opens a connection that runs one statement after another.
    pub(crate) fn session(&self) -> io::Result<Session> {
        let mut command = self.tools.psql(&self.conninfo());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        let missing = || io::Error::other("psql has no pipe");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        Ok(Session { child, input: Some(input), output })
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("server.log")).unwrap_or_default()
    }

    /// Stops the server at once, as a crash would, and starts it again.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.stop("immediate")?;
        self.start_again()
    }

    /// Stops the server, copies it, its slots included, and starts it again. The copy is promoted:
    /// it goes on from here on a timeline of its own.
    pub(crate) fn fork(&mut self) -> io::Result<Cluster> {
        let tools = Tools::find()?;
        let directory = tools.make_directory()?;
        self.stop("fast")?;
        let copied = tools.run("cp", &["-R", &data(&self.directory), &data(&directory)]);
        let copied = copied.and_then(|_| self.start_again());
        let served = copied.and_then(|()| {
            tools.run("touch", &[&format!("{}/recovery.signal", data(&directory))])?;
            let mut settings = self.settings.clone();
            // Nobody is let in before it has been promoted.
            settings.extend(["restore_command=false".into(), "hot_standby=off".into()]);
            let server = tools.serve(&directory, &settings)?;
            Ok(Cluster { tools, directory: directory.clone(), server, settings })
        });
        served.inspect_err(|_| {
            let _ = std::fs::remove_dir_all(&directory);
        })
    }

    fn start_again(&mut self) -> io::Result<()> {
        self.server = self.tools.serve(&self.directory, &self.settings)?;
        Ok(())
    }

    fn stop(&mut self, mode: &str) -> io::Result<()> {
        self.tools.run("pg_ctl", &["stop", "--pgdata", &data(&self.directory), "--mode", mode])?;
        self.server.wait()?;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.stop("immediate").is_err() {
            let _ = self.server.kill();
            let _ = self.server.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// One connection, driven through psql.
#[derive(Debug)]
pub(crate) struct Session {
    child: Child,
    /// Closed to end the session.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Session {
    /// Runs `sql` and gives its rows. The session ends at the first error.
    pub(crate) fn run(&mut self, sql: &str) -> io::Result<String> {
        let input = self.input.as_mut().ok_or_else(|| io::Error::other("the session has ended"))?;
        writeln!(input, "{sql};\n\\echo {END_OF_ANSWER}")?;
        input.flush()?;
        let (mut rows, mut line) = (String::new(), String::new());
        loop {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                return Err(io::Error::other(format!("psql ended while it ran: {sql}")));
            }
            if line.trim_end() == END_OF_ANSWER {
                return Ok(rows.trim_end().to_owned());
            }
            rows.push_str(&line);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}

/// The installed Postgres, and who it runs as.
#[derive(Debug)]
struct Tools {
    bin: PathBuf,
    /// Set when we are root.
    user: Option<(u32, u32)>,
}

impl Tools {
    fn find() -> io::Result<Tools> {
        let bin = places().into_iter().find(|bin| {
            ["initdb", "postgres", "pg_ctl"].iter().all(|tool| bin.join(tool).is_file())
        });
        let bin = bin.ok_or_else(|| {
            io::Error::other(
                "no Postgres server found: neither PATH nor /usr/lib/postgresql/*/bin has initdb, \
                 postgres and pg_ctl; on Debian run: apt-get install postgresql",
            )
        })?;
        let user = is_root()?.then(|| user("postgres")).transpose()?;
        Ok(Tools { bin, user })
    }

    fn command(&self, tool: &str) -> Command {
        let beside = self.bin.join(tool);
        let mut command = if beside.is_file() { Command::new(beside) } else { Command::new(tool) };
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        // A directory that the other user may see, and no settings of the caller's.
        command.current_dir("/").stdin(Stdio::null()).env("LC_ALL", "C");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, tool: &str, arguments: &[&str]) -> io::Result<String> {
        let output = self.command(tool).args(arguments).output()?;
        answer(tool, &output.status, &output.stdout, &output.stderr)
    }

    fn psql(&self, conninfo: &str) -> Command {
        let mut command = self.command("psql");
        command.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", conninfo]);
        command
    }

    /// A new directory that belongs to the server's user. Its path is short: a socket's path has a
    /// limit of about 100 bytes.
    fn make_directory(&self) -> io::Result<PathBuf> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("walfan-pg-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match std::fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            if let Some((uid, gid)) = self.user {
                chown(&path, Some(uid), Some(gid))?;
            }
            return Ok(path);
        }
    }

    fn serve(&self, directory: &Path, settings: &[String]) -> io::Result<Child> {
        let log = directory.join("server.log");
        let file = std::fs::File::create(&log)?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(data(directory)).arg("-k").arg(directory);
        // Nothing here outlives the run, so nothing needs to survive a power cut.
        let own = ["listen_addresses=", "wal_level=logical", "fsync=off", "max_wal_senders=20"];
        for setting in own.into_iter().chain(settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        let mut server = command.stdout(file.try_clone()?).stderr(file).spawn()?;
        let deadline = Instant::now() + START_MAX;
        let conninfo = format!("host={} dbname=postgres user=postgres", directory.display());
        loop {
            let probe = self.psql(&conninfo).args(["-c", "select 1"]).output()?;
            if probe.status.success() {
                return Ok(server);
            }
            let ended = server.try_wait()?.is_some();
            if ended || Instant::now() > deadline {
                let _ = server.kill();
                let _ = server.wait();
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(io::Error::other(format!("Postgres does not start: {log}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// PATH first, then Debian's versions, the newest first.
fn places() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<_> = std::env::split_paths(&path).collect();
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut versions: Vec<_> = versions
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    places.extend(versions.into_iter().map(|(_, bin)| bin));
    places
}

fn is_root() -> io::Result<bool> {
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}

/// The user and group number of `name`.
fn user(name: &str) -> io::Result<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd")?;
    let numbers = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        found.then_some((uid, gid))
    });
    numbers.ok_or_else(|| {
        io::Error::other(format!(
            "we are root, which Postgres refuses, and there is no user {name} to run it as; on \
             Debian run: apt-get install postgresql"
        ))
    })
}

fn data(directory: &Path) -> String {
    directory.join("data").display().to_string()
}

fn answer(
    tool: &str,
    status: &std::process::ExitStatus,
    stdout: &[u8],
    stderr: &[u8],
) -> io::Result<String> {
    if status.success() {
        return Ok(String::from_utf8_lossy(stdout).trim_end().to_owned());
    }
    let stderr = String::from_utf8_lossy(stderr);
    Err(io::Error::other(format!("{tool} failed ({status}): {}", stderr.trim_end())))
}
