//! A guest's memory, read and written at addresses that the guest names: none of them is trusted.

use super::Errno;

/// The memory of a guest.
#[derive(Debug)]
pub(super) struct View<'a>(pub(super) &'a mut [u8]);

/// A part of the memory: where, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) at: i32,
    pub(super) len: i32,
}

/// The most parts of one read or write, as on Linux.
const MAX_PARTS: i32 = 1024;
/// The size of the description of one, in bytes.
const PART_BYTES: usize = 8;

impl View<'_> {
    pub(super) fn bytes(&self, at: i32, len: i32) -> Result<&[u8], Errno> {
        let (start, end) = range(at, len)?;
        self.0.get(start..end).ok_or(Errno::FAULT)
    }

    pub(super) fn bytes_mut(&mut self, at: i32, len: i32) -> Result<&mut [u8], Errno> {
        let (start, end) = range(at, len)?;
        self.0.get_mut(start..end).ok_or(Errno::FAULT)
    }

    pub(super) fn array<const N: usize>(&self, at: i32) -> Result<[u8; N], Errno> {
        let start = usize_of(at);
        let bytes = self.0.get(start..).and_then(<[u8]>::first_chunk);
        bytes.copied().ok_or(Errno::FAULT)
    }

    pub(super) fn u16(&self, at: i32) -> Result<u16, Errno> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&self, at: i32) -> Result<u32, Errno> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&self, at: i32) -> Result<u64, Errno> {
        self.array(at).map(u64::from_le_bytes)
    }

    pub(super) fn put(&mut self, at: i32, bytes: &[u8]) -> Result<(), Errno> {
        let start = usize_of(at);
        let into = self.0.get_mut(start..).ok_or(Errno::FAULT)?;
        let into = into.get_mut(..bytes.len()).ok_or(Errno::FAULT)?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn put_u32(&mut self, at: i32, value: u32) -> Result<(), Errno> {
        self.put(at, &value.to_le_bytes())
    }

    pub(super) fn put_u64(&mut self, at: i32, value: u64) -> Result<(), Errno> {
        self.put(at, &value.to_le_bytes())
    }

    /// Writes a size, which in a guest has 32 bits.
    pub(super) fn put_size(&mut self, at: i32, size: usize) -> Result<(), Errno> {
        let size = u32::try_from(size).map_err(|_too_large| Errno::INVAL)?;
        self.put_u32(at, size)
    }

    /// The description of one part of many.
    pub(super) fn part(&self, parts: i32, number: i32) -> Result<Part, Errno> {
        let at = after(parts, usize_of(number) * PART_BYTES)?;
        Ok(Part {
            at: self.u32(at)?.cast_signed(),
            len: self.u32(after(at, 4)?)?.cast_signed(),
        })
    }
}

/// How many parts a guest names, which are all it may name.
pub(super) fn part_count(count: i32) -> Result<i32, Errno> {
    if (0..=MAX_PARTS).contains(&count) {
        Ok(count)
    } else {
        Err(Errno::INVAL)
    }
}

/// The address so many bytes further on.
pub(super) fn after(at: i32, bytes: usize) -> Result<i32, Errno> {
    let bytes = u32::try_from(bytes).map_err(|_too_far| Errno::FAULT)?;
    let at = at.cast_unsigned().checked_add(bytes).ok_or(Errno::FAULT)?;
    Ok(at.cast_signed())
}

fn range(at: i32, len: i32) -> Result<(usize, usize), Errno> {
    let (start, len) = (usize_of(at), usize_of(len));
    let end = start.checked_add(len).ok_or(Errno::FAULT)?;
    Ok((start, end))
}

/// An address or size: WebAssembly has no signs, wasmtime's types do.
fn usize_of(value: i32) -> usize {
    value.cast_unsigned() as usize
}
