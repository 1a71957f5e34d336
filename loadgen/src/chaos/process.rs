//! Process: a life as its parent sees it: started with a plan, heard, and brought down.

use super::ledger::Ledger;
use super::plan::Plan;
use super::said::{Said, hear};
use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const KILLED: i32 = 9;
/// How long a process may take to end by itself once it has said its last.
const END_MAX: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(2);

/// See the file's head. One that is dropped is killed.
pub(super) struct Process {
    child: Child,
    /// Open for as long as this lives: the child ends when it closes.
    _plan: ChildStdin,
    lines: Receiver<Said>,
}

impl Process {
    pub(super) fn start(plan: &Plan, ledger: &mut Ledger) -> Result<Process, String> {
        let failed = |what: &str| format!("a life could not be started: {what}");
        let own = std::env::current_exe().map_err(|error| failed(&error.to_string()))?;
        let mut command = Command::new(own);
        command.arg("chaos-life").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(&error.to_string()))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(failed("no pipes"));
        };
        let (heard, lines) = unbounded();
        thread::spawn(move || {
            let said = BufReader::new(stdout).lines().map_while(Result::ok);
            for said in said.filter_map(|line| hear(&line)) {
                // Nobody listens any more.
                if heard.send(said).is_err() {
                    break;
                }
            }
        });
        let line = serde_json::to_string(plan).map_err(|error| failed(&error.to_string()))?;
        let written = stdin.write_all(format!("{line}\n").as_bytes());
        ledger.begin();
        let process = Process { child, _plan: stdin, lines };
        written.map_err(|error| failed(&error.to_string()))?;
        Ok(process)
    }

    /// Hears until `enough`, for `time` at most; whether it was enough. False, too, when the
    /// process has ended.
    pub(super) fn hear(
        &self,
        ledger: &mut Ledger,
        time: Duration,
        enough: impl Fn(&Ledger) -> bool,
    ) -> Result<bool, String> {
        let until = Instant::now() + time;
        while !enough(ledger) {
            match self.lines.recv_deadline(until) {
                Ok(said) => ledger.take(said)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Ok(enough(ledger));
                }
            }
        }
        Ok(true)
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) -> Result<(), String> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).map_err(|error| format!("SIGTERM: {error}"))
    }

    /// Kills it, and hears what it had said. False: it had ended by itself.
    pub(super) fn kill(mut self, ledger: &mut Ledger) -> Result<bool, String> {
        self.child.kill().map_err(|error| format!("SIGKILL: {error}"))?;
        let status = self.child.wait().map_err(|error| format!("waiting: {error}"))?;
        self.rest(ledger)?;
        if status.signal() == Some(KILLED) {
            return Ok(true);
        }
        if status.success() { Ok(false) } else { Err(ended(status)) }
    }

    /// Waits until it has ended by itself, in good order.
    pub(super) fn end(mut self, ledger: &mut Ledger) -> Result<(), String> {
        let until = Instant::now() + END_MAX;
        loop {
            let status = self.child.try_wait().map_err(|error| format!("waiting: {error}"))?;
            if let Some(status) = status {
                self.rest(ledger)?;
                return if status.success() { Ok(()) } else { Err(ended(status)) };
            }
            if Instant::now() > until {
                return Err(format!("the process has not ended {} s later", END_MAX.as_secs()));
            }
            thread::sleep(LOOK);
        }
    }

    /// What it had said before its end.
    fn rest(&self, ledger: &mut Ledger) -> Result<(), String> {
        self.lines.iter().try_for_each(|said| ledger.take(said))
    }
}

fn ended(status: ExitStatus) -> String {
    format!("the process ended with {status}: what it said stands above")
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
