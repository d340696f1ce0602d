//! The envelope of a state file: what it is, what it belongs to, what it was made on top of, and a checksum of it all.
//!
//! The layout is in `docs/CHECKPOINT.md`, section `state/`. What every format version, also a later one, must keep:
//! the magic first, the format version after it, and the CRC-32 of all bytes before it as the last four bytes. So a
//! damaged file and a file of a newer Wavetank can be told apart.

use bytes::Bytes;

/// The first bytes of every state file.
const MAGIC: &[u8; 8] = b"WVTKSTAT";
/// The format that this code writes.
const FORMAT: u16 = 1;
/// Bytes before the identity.
const FIXED_LEN: usize = 74;
/// Bytes of the checksum.
const CHECKSUM_LEN: usize = 4;

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The changes from the version before.
    Delta,
    /// A whole version.
    Snapshot,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Delta => 1,
            Self::Snapshot => 2,
        }
    }

    /// The end of the names of such files.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Snapshot => "snapshot",
        }
    }
}

/// What the envelope says about the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// The version that the file makes, or is.
    pub(super) version: u64,
    /// Of a delta: the checksum of the delta before it (0 for the first). Of a snapshot: the checksum of the delta of
    /// the same version. So a file that an abandoned try left behind is never taken for one of this history.
    pub(super) link: u32,
    /// Fingerprint of the key types.
    pub(super) key_types: u64,
    /// Fingerprint of the value types.
    pub(super) value_types: u64,
    /// Rows of the first section: entries put, or all entries.
    pub(super) puts: u64,
    /// Rows of the second section: keys removed.
    pub(super) removes: u64,
    /// Operator, partition and store name, as text.
    pub(super) identity: String,
}

/// A file taken out of its envelope.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) header: Header,
    /// The file's checksum.
    pub(super) checksum: u32,
    /// The section of entries, empty without rows.
    pub(super) puts: Bytes,
    /// The section of removed keys, empty without rows.
    pub(super) removes: Bytes,
}

/// Why an envelope could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// Bytes are missing or changed; what was found.
    Bytes(String),
    /// A newer Wavetank wrote the file, in this format.
    Newer(u16),
}

/// Puts sections into an envelope; answers the file's bytes and its checksum.
pub(super) fn seal(header: &Header, puts: &[u8], removes: &[u8]) -> (Bytes, u32) {
    let identity = header.identity.as_bytes();
    let mut file = Vec::with_capacity(FIXED_LEN + identity.len() + puts.len() + removes.len() + CHECKSUM_LEN);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&FORMAT.to_le_bytes());
    file.extend_from_slice(&[header.kind.byte(), 0]);
    file.extend_from_slice(&header.version.to_le_bytes());
    file.extend_from_slice(&header.link.to_le_bytes());
    file.extend_from_slice(&header.key_types.to_le_bytes());
    file.extend_from_slice(&header.value_types.to_le_bytes());
    file.extend_from_slice(&header.puts.to_le_bytes());
    file.extend_from_slice(&header.removes.to_le_bytes());
    file.extend_from_slice(&(puts.len() as u64).to_le_bytes());
    file.extend_from_slice(&(removes.len() as u64).to_le_bytes());
    file.extend_from_slice(&(identity.len() as u16).to_le_bytes());
    file.extend_from_slice(identity);
    file.extend_from_slice(puts);
    file.extend_from_slice(removes);
    let checksum = crc32fast::hash(&file);
    file.extend_from_slice(&checksum.to_le_bytes());
    (file.into(), checksum)
}

/// Opens an envelope and checks that its bytes are the ones that were sealed.
pub(super) fn open(file: &Bytes) -> Result<Opened, Damage> {
    let damage = |what: &str| Damage::Bytes(what.to_string());
    if file.len() < MAGIC.len() + 2 + CHECKSUM_LEN {
        return Err(Damage::Bytes(format!("it has only {} bytes", file.len())));
    }
    let (content, checksum) = file.split_at(file.len() - CHECKSUM_LEN);
    let checksum = u32::from_le_bytes(take(checksum, 0));
    let found = crc32fast::hash(content);
    if &content[..MAGIC.len()] != MAGIC {
        return Err(damage("it does not start as a state file does"));
    }
    if found != checksum {
        return Err(Damage::Bytes(format!("its checksum is {found:08x} where {checksum:08x} was written")));
    }
    match u16::from_le_bytes(take(content, 8)) {
        FORMAT => parse(file, content, checksum).ok_or_else(|| damage("its lengths do not add up")),
        newer => Err(Damage::Newer(newer)),
    }
}

fn parse(file: &Bytes, content: &[u8], checksum: u32) -> Option<Opened> {
    if content.len() < FIXED_LEN {
        return None;
    }
    let long = |at: usize| u64::from_le_bytes(take(content, at));
    let kind = [Kind::Delta, Kind::Snapshot].into_iter().find(|kind| kind.byte() == content[10])?;
    let identity_end = FIXED_LEN + usize::from(u16::from_le_bytes(take(content, 72)));
    let puts_end = identity_end.checked_add(usize::try_from(long(56)).ok()?)?;
    let removes_end = puts_end.checked_add(usize::try_from(long(64)).ok()?)?;
    if removes_end != content.len() {
        return None;
    }
    let header = Header {
        kind,
        version: long(12),
        link: u32::from_le_bytes(take(content, 20)),
        key_types: long(24),
        value_types: long(32),
        puts: long(40),
        removes: long(48),
        identity: std::str::from_utf8(&content[FIXED_LEN..identity_end]).ok()?.to_string(),
    };
    let (puts, removes) = (file.slice(identity_end..puts_end), file.slice(puts_end..removes_end));
    Some(Opened { header, checksum, puts, removes })
}

/// `N` bytes from `at` on; the caller has checked that they are there.
fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut taken = [0; N];
    taken.copy_from_slice(&bytes[at..at + N]);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: Kind::Delta,
            version: 7,
            link: 99,
            key_types: 1,
            value_types: 2,
            puts: 3,
            removes: 4,
            identity: "0/3/default".into(),
        }
    }

    #[test]
    fn what_was_sealed_comes_out() {
        let (file, checksum) = seal(&header(), b"puts", b"removes");
        assert_eq!(file.len(), FIXED_LEN + 11 + 4 + 7 + CHECKSUM_LEN);
        let opened = open(&file).unwrap();
        assert_eq!((opened.header, opened.checksum), (header(), checksum));
        assert_eq!((&opened.puts[..], &opened.removes[..]), (&b"puts"[..], &b"removes"[..]));
    }

    #[test]
    fn every_flipped_bit_and_every_length_is_noticed() {
        let (file, _) = seal(&header(), b"puts", b"removes");
        for bit in 0..file.len() * 8 {
            let mut flipped = file.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(open(&flipped.into()), Err(Damage::Bytes(_))), "bit {bit}");
        }
        for len in 0..file.len() {
            assert!(matches!(open(&file.slice(..len)), Err(Damage::Bytes(_))), "length {len}");
        }
        let longer = [&file[..], &[0]].concat();
        assert!(matches!(open(&longer.into()), Err(Damage::Bytes(_))));
    }

    #[test]
    fn a_newer_format_is_not_called_damaged() {
        let (file, _) = seal(&header(), b"", b"");
        let mut newer = file[..file.len() - CHECKSUM_LEN].to_vec();
        newer[8] = 2;
        newer.extend(crc32fast::hash(&newer).to_le_bytes());
        assert_eq!(open(&newer.into()).unwrap_err(), Damage::Newer(2));
    }
}
