//! [`Meter`]: what the proxy's processes used, as Linux tells it in `/proc`.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

/// Of `/proc/PID/stat` (proc(5)): the same on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

pub struct Meter {
    /// The first process of the proxy, and others beside its children.
    roots: Vec<u32>,
    origin: Option<u32>,
}

pub struct Sample {
    at: Instant,
    user: f64,
    system: f64,
    origin: f64,
    client: f64,
    machine: f64,
}

struct Stat {
    pid: u32,
    parent: u32,
    user: f64,
    system: f64,
}

impl Meter {
    pub fn new(roots: &str, origin: Option<u32>) -> Self {
        Self { roots: roots.split(',').filter_map(|pid| pid.parse().ok()).collect(), origin }
    }

    pub fn sample(&self) -> Sample {
        let used = |pid| stat(pid).map_or(0.0, |stat| stat.user + stat.system);
        let of_proxy = self.processes();
        Sample {
            at: Instant::now(),
            user: of_proxy.iter().map(|stat| stat.user).sum(),
            system: of_proxy.iter().map(|stat| stat.system).sum(),
            origin: self.origin.map_or(0.0, used),
            client: used(std::process::id()),
            machine: machine(),
        }
    }

    /// Resident memory of all processes, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.processes().iter().map(|stat| status_kib(stat.pid, "VmRSS:")).sum()
    }

    /// The most since [`Meter::forget_peak`], in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.processes().iter().map(|stat| status_kib(stat.pid, "VmHWM:")).sum()
    }

    pub fn forget_peak(&self) {
        for stat in self.processes() {
            // Where it is not allowed, the peak is that of the process's life.
            let _ = fs::write(format!("/proc/{}/clear_refs", stat.pid), "5");
        }
    }

    /// The roots and all below them.
    fn processes(&self) -> Vec<Stat> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut all: Vec<Stat> = pids.filter_map(stat).collect();
        let mut known = self.roots.clone();
        while let Some(found) =
            all.iter().find(|stat| known.contains(&stat.parent) && !known.contains(&stat.pid))
        {
            known.push(found.pid);
        }
        all.retain(|stat| known.contains(&stat.pid));
        all
    }
}

impl Sample {
    /// What was used since `before`, in seconds of CPU time.
    pub fn since(&self, before: &Self) -> Value {
        let (user, system) = (self.user - before.user, self.system - before.system);
        json!({
            "wall_s": self.at.duration_since(before.at).as_secs_f64(),
            "proxy_user_s": user,
            "proxy_cpu_s": user + system,
            "origin_cpu_s": self.origin - before.origin,
            "client_cpu_s": self.client - before.client,
            "machine_cpu_s": self.machine - before.machine,
        })
    }
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name, may hold anything.
    let fields: Vec<&str> = text[text.rfind(')')? + 2..].split(' ').collect();
    let seconds = |at: usize| Some(fields.get(at)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(Stat {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        user: seconds(11)?,
        system: seconds(12)?,
    })
}

/// user, nice, system, irq and softirq of all cores.
fn machine() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    let busy = [0, 1, 2, 5, 6].map(|at| ticks.get(at).copied().unwrap_or(0.0));
    busy.iter().sum::<f64>() / TICKS_PER_SECOND
}

fn status_kib(pid: u32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
