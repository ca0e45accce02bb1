//! Versions of Bolt, and why bytes are no message of it.

/// A version of the protocol.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct BoltVersion {
    pub major: u8,
    pub minor: u8,
}

/// The oldest one that is supported, and the only one before 5.0.
pub const OLDEST: BoltVersion = BoltVersion { major: 4, minor: 4 };

pub const NEWEST: BoltVersion = BoltVersion { major: 5, minor: 8 };

/// The first version in which a login is a message of its own.
pub const LOGON_SINCE: BoltVersion = BoltVersion { major: 5, minor: 1 };

/// Why bytes are no message. Nothing of them is repeated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BoltFormatError {
    /// The stream does not begin as Bolt does.
    Magic,
    /// No version that both sides speak.
    Version,
    TooLong,
    Cut,
    Trailing,
    Value,
    Depth,
    /// A message that is not known, or not in this place.
    Order,
    /// More messages than may wait for their answers.
    TooMany,
    /// A message that is refused after a part of it was passed on.
    Refused,
}

/// Why no message was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BoltReadError {
    /// The peer has closed the stream, or said goodbye.
    Ended,
    Malformed(BoltFormatError),
}

impl BoltFormatError {
    /// What is wrong.
    pub fn text(self) -> &'static str {
        match self {
            Self::Magic => "the stream does not begin as Bolt does",
            Self::Version => "the client speaks no version of Bolt from 4.4 or 5.0 to 5.8",
            Self::TooLong => "a message, or a part of it, is too long",
            Self::Cut => "a message ends within a value",
            Self::Trailing => "a message has bytes behind its values",
            Self::Value => "a message has a value that is unknown, or not of the expected kind",
            Self::Depth => "a message has values that are nested too deep",
            Self::Order => "a message is unknown, or not permitted in this place",
            Self::TooMany => "too many messages wait for their answers",
            Self::Refused => "a long message names another user",
        }
    }
}

impl From<std::io::Error> for BoltReadError {
    fn from(_: std::io::Error) -> Self {
        Self::Ended
    }
}

impl From<BoltFormatError> for BoltReadError {
    fn from(malformed: BoltFormatError) -> Self {
        Self::Malformed(malformed)
    }
}

impl BoltVersion {
    pub const fn number(self) -> u16 {
        u16::from_be_bytes([self.major, self.minor])
    }

    fn is_supported(self) -> bool {
        self == OLDEST || self.major == NEWEST.major && self <= NEWEST
    }

    /// The newest version of a proposal that is not newer than this one. A proposal is a version, and how many minor versions
    /// before it are meant as well.
    pub fn of_proposal(proposal: [u8; 4], newest: Self) -> Option<Self> {
        let [_, range, minor, major] = proposal;
        let versions = (minor.saturating_sub(range)..=minor).rev();
        let mut versions = versions.map(|minor| Self { major, minor });
        versions.find(|version| version.is_supported() && *version <= newest)
    }

    /// How it is proposed, with `range` versions before it.
    pub fn proposal(self, range: u8) -> [u8; 4] {
        [0, range, self.minor, self.major]
    }
}

impl std::fmt::Display for BoltVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
