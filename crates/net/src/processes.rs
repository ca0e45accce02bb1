//! Processes of this machine and their sockets, read from `/proc` (proc(5)), to identify the peer of a stream.
//! On other systems, and for processes of other users, everything is empty.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Limit of one walk; more than any program starts.
const PROCESSES_MAX: usize = 4096;
/// How often a process tree that changes during a walk is read again.
const READS_MAX: usize = 4;

/// `TCP_ESTABLISHED`, `TCP_SYN_SENT` and `TCP_LISTEN` of the kernel's `net/tcp_states.h`.
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const LISTEN: u8 = 10;

/// Whether a stream was opened by a process tree: a process and its descendants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Membership {
    /// One of its processes opened the stream.
    Inside,
    /// Another process or another machine opened it.
    Outside,
    /// Unknown: the process has ended, or is hidden from this user.
    Unknown,
}

/// A socket in the process's network namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct KernelSocket {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    uid: u32,
    /// 0 when no process holds it.
    inode: u64,
}

/// A process and its descendants; the process comes first.
pub fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut parents: Option<HashMap<u32, Vec<u32>>> = None;
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        let below = children(pid).unwrap_or_else(|| {
            // The kernel lacks CONFIG_PROC_CHILDREN.
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
        found.entry(parent(pid).unwrap_or(0)).or_default().push(pid);
    }
    found
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain any character.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Remote addresses of its TCP connections, pending ones included.
pub fn connected(pid: u32) -> BTreeSet<SocketAddr> {
    let out = |socket: &KernelSocket| matches!(socket.state, ESTABLISHED | SYN_SENT);
    remotes(pid, &["tcp", "tcp6"], out)
}

/// Remote addresses of its datagram sockets.
pub fn sends_to(pid: u32) -> BTreeSet<SocketAddr> {
    remotes(pid, &["udp", "udp6"], |socket| socket.state == ESTABLISHED)
}

fn remotes(
    pid: u32,
    files: &[&str],
    wanted: impl Fn(&KernelSocket) -> bool,
) -> BTreeSet<SocketAddr> {
    let own = inodes(pid);
    let sockets = files.iter().flat_map(|file| sockets(&format!("/proc/{pid}/net/{file}")));
    let sockets: Vec<_> = sockets.filter(|s| wanted(s) && own.contains(&s.inode)).collect();
    // Accepted connections are established too.
    let listening = |socket: &KernelSocket| {
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

fn sockets(path: &str) -> Vec<KernelSocket> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().skip(1).filter_map(socket).collect()
}

/// Parses a line of `/proc/net/tcp`.
fn socket(line: &str) -> Option<KernelSocket> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let uid = words.nth(3)?.parse().ok()?;
    let inode = words.nth(1)?.parse().ok()?;
    Some(KernelSocket { local, remote, state, uid, inode })
}

/// Parses `0100007F:1F90`: 32-bit words in the machine's byte order, as hex.
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

/// The process that listens on a TCP port, if it belongs to this user.
pub fn listening_on(port: u16) -> Option<u32> {
    let listens = |socket: &KernelSocket| socket.state == LISTEN && socket.local.port() == port;
    let wanted: HashSet<u64> = own_sockets().filter(listens).map(|socket| socket.inode).collect();
    holder(&wanted)
}

/// Whether this process can identify streams of the tree of `root`, which may hide its own descriptors.
pub fn can_tell(root: u32) -> bool {
    let (own, others) = (uids(std::process::id()), uids(root));
    // A process of another user or namespace cannot be read.
    let is_readable = own.is_some_and(|own| own.contains(&0) || others.as_ref() == Some(&own));
    root != 0 && is_readable && fs::read_dir("/proc/self/net").is_ok()
}

/// Whether the tree of `root` opened the stream that was accepted at `own` from `peer`. If this cannot be
/// determined, the answer is `Unknown`, never `Outside`.
pub fn stream_membership(root: u32, peer: SocketAddr, own: SocketAddr) -> Membership {
    let (peer, own) = (canonical(peer), canonical(own));
    let is_peer = |socket: &KernelSocket| socket.local == peer && socket.remote == own;
    match own_sockets().find(is_peer) {
        Some(KernelSocket { inode: 0, .. }) => Membership::Unknown,
        Some(socket) => socket_membership(root, &socket),
        // A socket of this machine connects to another one from the same address.
        None if peer.ip() == own.ip() || peer.ip().is_loopback() => Membership::Unknown,
        None => Membership::Outside,
    }
}

/// Whether a process belongs to the tree. A process that has ended may have passed the stream to another.
pub fn process_membership(root: u32, pid: u32) -> Membership {
    let mut at = pid;
    for _ in 0..PROCESSES_MAX {
        match parent(at) {
            _ if at == root => return Membership::Inside,
            Some(0) => return Membership::Outside,
            Some(parent) => at = parent,
            None => break,
        }
    }
    Membership::Unknown
}

fn socket_membership(root: u32, socket: &KernelSocket) -> Membership {
    let wanted = HashSet::from([socket.inode]);
    for _ in 0..READS_MAX {
        let tree = tree(root);
        if tree.iter().any(|pid| holds_socket(*pid, &wanted)) {
            return Membership::Inside;
        }
        // Finds the process that holds it, even a child that is missing in the kernel's list.
        match holder(&wanted).map(|pid| process_membership(root, pid)) {
            Some(Membership::Unknown) => {}
            Some(known) => return known,
            // No readable process holds it: it is outside the tree if the tree has no process of that user.
            None if tree
                .iter()
                .all(|pid| uids(*pid).is_some_and(|it| !it.contains(&socket.uid))) =>
            {
                return Membership::Outside;
            }
            None => {}
        }
    }
    Membership::Unknown
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A process of this user that holds one of these sockets.
fn holder(wanted: &HashSet<u64>) -> Option<u32> {
    all().into_iter().take(PROCESSES_MAX).find(|pid| holds_socket(*pid, wanted))
}

fn holds_socket(pid: u32, wanted: &HashSet<u64>) -> bool {
    !inodes(pid).is_disjoint(wanted)
}

/// Real, effective, saved and file system user id; sockets get the last one.
fn uids(pid: u32) -> Option<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().map(|uid| uid.parse().ok()).collect()
}

/// All sockets in this process's network namespace.
fn own_sockets() -> impl Iterator<Item = KernelSocket> {
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"].into_iter().flat_map(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn a_line_of_proc_net_tcp_is_parsed() {
        let line = "   1: 0100007F:1F90 0A0200C0:01BB 02 00000000:00000000 00:00000000 00000000 \
                    1000 0 4711 1 0000000000000000 20 0 0 10 -1";
        let found = socket(line).unwrap();
        assert_eq!(found.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(found.remote, "192.0.2.10:443".parse().unwrap());
        assert_eq!((found.state, found.uid, found.inode), (SYN_SENT, 1000, 4711));
        let v6 = address("B80D01200000000000000000010000A0:01BB").map(|at| at.to_string());
        assert_eq!(v6.as_deref(), Some("[2001:db8::a000:1]:443"));
        assert_eq!(address("0000000000000000FFFF00000100007F:0050"), "127.0.0.1:80".parse().ok());
    }

    #[test]
    fn a_text_that_is_not_a_socket_line_is_skipped() {
        for bad in ["", "  sl  local_address rem_address   st", "1: x:y z:w 01", "1: 0100007F:1F90"]
        {
            assert_eq!(socket(bad), None, "{bad}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_stream_that_a_process_opened_is_listed_and_an_accepted_one_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let out = std::net::TcpStream::connect(at).unwrap();
        let (accepted, from) = listener.accept().unwrap();
        let seen = connected(std::process::id());
        assert!(seen.contains(&at) && !seen.contains(&from), "{seen:?}");
        assert_eq!(listening_on(at.port()), Some(std::process::id()));
        drop((out, accepted));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_stream_belongs_to_the_trees_of_its_process_and_parent_and_to_no_other() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let out = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let at = accepted.local_addr().unwrap();
        let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
        assert_eq!(stream_membership(own, peer, at), Membership::Inside);
        assert_eq!(stream_membership(parent, peer, at), Membership::Inside);
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(stream_membership(other.id(), peer, at), Membership::Outside);
        assert_eq!(process_membership(own, other.id()), Membership::Inside);
        assert_eq!(process_membership(other.id(), own), Membership::Outside);
        other.kill().unwrap();
        other.wait().unwrap();
        drop(out);
        // No process holds it any more, so its opener is unknown. A child of another test may hold it for a
        // moment while it starts.
        let began = std::time::Instant::now();
        while stream_membership(own, peer, at) != Membership::Unknown {
            assert!(began.elapsed() < std::time::Duration::from_secs(10));
            std::thread::yield_now();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_stream_from_another_machine_belongs_to_no_process_tree_here() {
        let (peer, at) = ("192.0.2.1:50000".parse().unwrap(), "198.51.100.1:8080".parse().unwrap());
        assert_eq!(stream_membership(std::process::id(), peer, at), Membership::Outside);
    }
}
