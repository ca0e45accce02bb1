//! What Linux tells of processes and their sockets (proc(5)). Elsewhere, and of other users'
//! processes, everything is empty.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// More than any program has; bounds a look.
const PROCESSES_MAX: usize = 4096;
/// A command line or a file of variables is cut there.
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// `TCP_ESTABLISHED`, `TCP_SYN_SENT` and `TCP_LISTEN` of the kernel's `net/tcp_states.h`.
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const LISTEN: u8 = 10;

/// A socket of a process's network.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    inode: u64,
}

/// A process and all below it, the first one first.
pub(super) fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut parents: Option<HashMap<u32, Vec<u32>>> = None;
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        let below = children(pid).unwrap_or_else(|| {
            // A kernel without CONFIG_PROC_CHILDREN.
            parents.get_or_insert_with(by_parent).get(&pid).cloned().unwrap_or_default()
        });
        found.extend(below);
        if found.len() > PROCESSES_MAX {
            break;
        }
    }
    found
}

fn children(pid: u32) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = fs::read_to_string(task.path().join("children")).ok()?;
        found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Some(found)
}

fn by_parent() -> HashMap<u32, Vec<u32>> {
    let mut found: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in all().into_iter().take(PROCESSES_MAX) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, in parentheses, may hold anything.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let parent = rest.split_ascii_whitespace().nth(1).and_then(|pid| pid.parse().ok());
        found.entry(parent.unwrap_or(0)).or_default().push(pid);
    }
    found
}

fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Its words.
pub(super) fn words(pid: u32) -> Vec<String> {
    texts(pid, "cmdline").unwrap_or_default()
}

/// The variables that it was started with, `NAME=value` each; `None` where that is not for us to
/// know. They hold secrets.
pub(super) fn variables(pid: u32) -> Option<Vec<String>> {
    texts(pid, "environ")
}

fn texts(pid: u32, file: &str) -> Option<Vec<String>> {
    let mut bytes = fs::read(format!("/proc/{pid}/{file}")).ok()?;
    bytes.truncate(TEXT_BYTES_MAX);
    let texts = bytes.split(|byte| *byte == 0).filter(|text| !text.is_empty());
    Some(texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect())
}

/// The file name of its program.
pub(super) fn program(pid: u32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(path.file_name()?.to_string_lossy().into_owned())
}

/// Its working directory.
pub(super) fn folder(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Whether one of its mapped files has this in its path.
pub(super) fn maps(pid: u32, part: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.contains(part))
}

/// Where it is connected over TCP, or about to be.
pub(super) fn connected(pid: u32) -> BTreeSet<SocketAddr> {
    let out = |socket: &Socket| matches!(socket.state, ESTABLISHED | SYN_SENT);
    remotes(pid, &["tcp", "tcp6"], out)
}

/// Where it sends datagrams.
pub(super) fn sends_to(pid: u32) -> BTreeSet<SocketAddr> {
    remotes(pid, &["udp", "udp6"], |socket| socket.state == ESTABLISHED)
}

fn remotes(pid: u32, files: &[&str], wanted: impl Fn(&Socket) -> bool) -> BTreeSet<SocketAddr> {
    let own = inodes(pid);
    let sockets = files.iter().flat_map(|file| sockets(&format!("/proc/{pid}/net/{file}")));
    let sockets: Vec<_> = sockets.filter(|s| wanted(s) && own.contains(&s.inode)).collect();
    // What it accepted is connected too.
    let listening = |socket: &Socket| {
        let files = files.iter().flat_map(|file| self::sockets(&format!("/proc/{pid}/net/{file}")));
        let mut listening = files.filter(|other| other.state == LISTEN);
        listening
            .any(|other| other.local.port() == socket.local.port() && own.contains(&other.inode))
    };
    sockets.iter().filter(|socket| !listening(socket)).map(|socket| socket.remote).collect()
}

fn inodes(pid: u32) -> HashSet<u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let inode = |file: fs::DirEntry| {
        let link = fs::read_link(file.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    files.filter_map(inode).collect()
}

fn sockets(path: &str) -> Vec<Socket> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().skip(1).filter_map(socket).collect()
}

/// A line of `/proc/net/tcp`.
fn socket(line: &str) -> Option<Socket> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let inode = words.nth(5)?.parse().ok()?;
    Some(Socket { local, remote, state, inode })
}

/// `0100007F:1F90`: 32-bit words in the machine's order of bytes, as hex.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let bytes = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The program that listens on a TCP port, when it is this user's.
pub(super) fn listening_on(port: u16) -> Option<String> {
    let listens = |socket: &Socket| socket.state == LISTEN && socket.local.port() == port;
    let files = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let sockets = files.iter().flat_map(|file| sockets(file));
    let wanted: HashSet<u64> = sockets.filter(listens).map(|socket| socket.inode).collect();
    let holds = |pid: &u32| !inodes(*pid).is_disjoint(&wanted);
    let pid = all().into_iter().take(PROCESSES_MAX).find(holds)?;
    Some(format!("{} (process {pid})", program(pid)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "   1: 0100007F:1F90 0A0200C0:01BB 02 00000000:00000000 00:00000000 00000000 \
                    0 0 4711 1 0000000000000000 20 0 0 10 -1";
        let found = socket(line).unwrap();
        assert_eq!(found.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(found.remote, "192.0.2.10:443".parse().unwrap());
        assert_eq!((found.state, found.inode), (SYN_SENT, 4711));
        let v6 = address("B80D01200000000000000000010000A0:01BB").map(|at| at.to_string());
        assert_eq!(v6.as_deref(), Some("[2001:db8::a000:1]:443"));
        assert_eq!(address("0000000000000000FFFF00000100007F:0050"), "127.0.0.1:80".parse().ok());
    }

    #[test]
    fn what_is_no_line_is_passed_over() {
        for bad in ["", "  sl  local_address rem_address   st", "1: x:y z:w 01", "1: 0100007F:1F90"]
        {
            assert_eq!(socket(bad), None, "{bad}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_own_stream_is_seen_and_an_accepted_one_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let out = std::net::TcpStream::connect(at).unwrap();
        let (accepted, from) = listener.accept().unwrap();
        let seen = connected(std::process::id());
        assert!(seen.contains(&at) && !seen.contains(&from), "{seen:?}");
        assert!(listening_on(at.port()).unwrap().ends_with(&format!("{})", std::process::id())));
        drop((out, accepted));
    }
}
