//! The table of the protocol matrix: the exchanges, the protocols they arrive on, and the expected results.

/// What an exchange is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Http1,
    Http2,
    GrpcUnary,
    GrpcStream,
    WebSocketHttp1,
    WebSocketHttp2,
    EventsHttp1,
    EventsHttp2,
}

/// How it comes to Keyward.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Entry {
    Connect,
    Absolute,
    BaseUrl,
    /// CONNECT on an agent's unix socket.
    UnixSocket,
    /// Absolute form on an agent's unix socket.
    AbsoluteUnix,
    /// CONNECT on an agent's TCP listener.
    AgentListener,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    Allowed,
    Denied,
    Paused,
    Broken,
    AgentAborts,
    UpstreamAborts,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Cell(pub(super) Kind, pub(super) Entry);

pub(super) const KINDS: [Kind; 8] = [
    Kind::Http1,
    Kind::Http2,
    Kind::GrpcUnary,
    Kind::GrpcStream,
    Kind::WebSocketHttp1,
    Kind::WebSocketHttp2,
    Kind::EventsHttp1,
    Kind::EventsHttp2,
];

pub(super) const ENTRIES: [Entry; 6] = [
    Entry::Connect,
    Entry::Absolute,
    Entry::BaseUrl,
    Entry::UnixSocket,
    Entry::AbsoluteUnix,
    Entry::AgentListener,
];

pub(super) const LISTEN: &str = "agents: [{ agent: ci, at: '127.0.0.1:0', unsafe_no_auth: true }, \
                      { agent: ci, at: 'unix:ci.sock' }]";

/// What an agent sends, what each half of an answer is, and how a WebSocket ends.
pub(super) const ASKED: &[u8] = b"\x00\x00\x00\x00\x03ask";
pub(super) const PIECE: &[u8] = b"\x00\x00\x00\x00\x08data: 1\n";
pub(super) const FRAME: &[u8] = b"\x81\x02hi";
pub(super) const GOODBYE: &[u8] = b"\x88\x02\x03\xe8";

impl Kind {
    pub(super) fn is_http2(self) -> bool {
        !matches!(self, Self::Http1 | Self::WebSocketHttp1 | Self::EventsHttp1)
    }

    pub(super) fn is_grpc(self) -> bool {
        matches!(self, Self::GrpcUnary | Self::GrpcStream)
    }

    pub(super) fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocketHttp1 | Self::WebSocketHttp2)
    }

    pub(super) fn method(self) -> &'static str {
        if self.is_websocket() { "GET" } else { "POST" }
    }

    /// One half of the answer.
    pub(super) fn piece(self) -> &'static [u8] {
        if self.is_websocket() { FRAME } else { PIECE }
    }

    /// The other half.
    pub(super) fn rest(self) -> Vec<u8> {
        if self.is_websocket() { [FRAME, GOODBYE].concat() } else { PIECE.to_vec() }
    }

    /// Fields of its own.
    pub(super) fn fields(self) -> &'static str {
        match self {
            Self::Http1 | Self::Http2 => "",
            Self::GrpcUnary | Self::GrpcStream => {
                "content-type: application/grpc\r\nte: trailers\r\n"
            }
            Self::WebSocketHttp1 => {
                "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            }
            Self::WebSocketHttp2 => "sec-websocket-version: 13\r\n",
            Self::EventsHttp1 | Self::EventsHttp2 => "accept: text/event-stream\r\n",
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::GrpcUnary | Self::GrpcStream => "application/grpc",
            Self::EventsHttp1 | Self::EventsHttp2 => "text/event-stream",
            _ => "text/plain",
        }
    }
}

impl Cell {
    /// Those that there are: in cleartext, HTTP/1.1 alone is spoken.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let cells = ENTRIES.into_iter().flat_map(|entry| KINDS.map(|kind| Self(kind, entry)));
        cells.filter(|Self(kind, entry)| {
            let cleartext = matches!(entry, Entry::Absolute | Entry::BaseUrl | Entry::AbsoluteUnix);
            !(kind.is_http2() && cleartext)
        })
    }

    /// Those that can have such a fate. The end of a unix socket is one direction's, as any FIN: in cleartext
    /// it does not give a WebSocket up.
    pub(super) fn of_fate(fate: Fate) -> impl Iterator<Item = Self> {
        Self::all().filter(move |Self(kind, entry)| {
            fate != Fate::AgentAborts || !kind.is_websocket() || *entry != Entry::AbsoluteUnix
        })
    }

    /// Its own path below that of its fate.
    pub(super) fn path(self, fate: Fate) -> String {
        format!("/{fate:?}/{:?}/{:?}", self.0, self.1).to_lowercase()
    }

    pub(super) fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.split('/').skip(2).collect();
        let found = Self::all().find(|cell| {
            parts
                == [format!("{:?}", cell.0).to_lowercase(), format!("{:?}", cell.1).to_lowercase()]
        });
        found.expect("a path of the table")
    }
}
