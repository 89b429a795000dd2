//! One file's data, as programs see it and as the medium has it.

use std::collections::BTreeSet;

use super::rng::Rng;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// What a file system allocates at a time.
pub(super) const BLOCK: u64 = 4096;

/// How much of what was not synced a power cut keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Luck {
    Nothing,
    Everything,
    Some,
}

impl Luck {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        match rng.next() % 3 {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Some,
        }
    }

    pub(super) fn keeps(self, rng: &mut Rng) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Some => rng.one_in(2),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Image {
    /// What reads see.
    pub(super) data: Vec<u8>,
    durable: Vec<u8>,
    /// What happened since the last sync, in order.
    pending: Vec<Pending>,
    blocks: BTreeSet<u64>,
}

#[derive(Debug)]
enum Pending {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

impl Image {
    pub(super) fn write(&mut self, data: &[u8], offset: usize) {
        put(&mut self.data, data, offset);
        self.pending.push(Pending::Write { offset, data: data.to_vec() });
        self.blocks.extend(blocks(data.len(), offset));
    }

    pub(super) fn set_length(&mut self, length: usize) {
        self.data.resize(length, 0);
        self.pending.push(Pending::Length(length));
        self.blocks.split_off(&(length as u64).div_ceil(BLOCK));
    }

    pub(super) fn sync(&mut self) {
        for pending in self.pending.drain(..) {
            match pending {
                Pending::Write { offset, data } => put(&mut self.durable, &data, offset),
                Pending::Length(length) => self.durable.resize(length, 0),
            }
        }
    }

    /// A sync that failed: nothing is durable, and nobody will try again.
    pub(super) fn forget(&mut self) {
        self.pending.clear();
    }

    /// The bytes of disk that a write would take beyond what the file has.
    pub(super) fn growth(&self, bytes: usize, offset: usize) -> u64 {
        blocks(bytes, offset).filter(|block| !self.blocks.contains(block)).count() as u64 * BLOCK
    }

    pub(super) fn allocated(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK
    }

    /// What the next boot finds.
    pub(super) fn power_cut(&self, luck: Luck, rng: &mut Rng) -> Self {
        let mut kept = self.durable.clone();
        for pending in &self.pending {
            match pending {
                Pending::Length(length) if luck.keeps(rng) => kept.resize(*length, 0),
                Pending::Length(_) => {}
                Pending::Write { offset, data } => {
                    let mut at = 0;
                    while at < data.len() {
                        let end = data.len().min(at + SECTOR - (offset + at) % SECTOR);
                        if luck.keeps(rng) {
                            put(&mut kept, &data[at..end], offset + at);
                        } else if luck == Luck::Some && kept.len() < offset + end && rng.one_in(4) {
                            kept.resize(offset + end, 0);
                        }
                        at = end;
                    }
                }
            }
        }
        let blocks = blocks(kept.len(), 0).collect();
        Self { data: kept.clone(), durable: kept, pending: Vec::new(), blocks }
    }
}

fn put(image: &mut Vec<u8>, data: &[u8], offset: usize) {
    if data.is_empty() {
        return;
    }
    if image.len() < offset + data.len() {
        image.resize(offset + data.len(), 0);
    }
    image[offset..offset + data.len()].copy_from_slice(data);
}

fn blocks(bytes: usize, offset: usize) -> std::ops::Range<u64> {
    let (offset, bytes) = (offset as u64, bytes as u64);
    if bytes == 0 { 0..0 } else { offset / BLOCK..(offset + bytes).div_ceil(BLOCK) }
}
