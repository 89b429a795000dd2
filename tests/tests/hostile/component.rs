//! Components that no compiler makes: an innocent one, with baggage behind what it had.
//!
//! A component is a row of sections, each of which may only refer to what stands before it. So sections can be put behind
//! its end without a change to the rest: modules and components, and instances of them, which live with each instance
//! of the whole. What it answers stays the same, as long as its baggage is within the limits.

use skiff_tests::guest;

const CORE_MODULE: u8 = 1;
const CORE_INSTANCE: u8 = 2;
const COMPONENT: u8 = 4;
const INSTANCE: u8 = 5;
/// `\0asm`, the version and the layer of components.
const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";

pub(crate) struct Component {
    bytes: Vec<u8>,
    modules: u32,
    components: u32,
}

impl Component {
    /// The guest `hello`, which carries nothing yet.
    pub(crate) fn hello() -> Self {
        let bytes = std::fs::read(guest("hello")).unwrap();
        let (mut modules, mut components) = (0, 0);
        let mut at = HEADER.len();
        while at < bytes.len() {
            match bytes[at] {
                CORE_MODULE => modules += 1,
                COMPONENT => components += 1,
                _ => {}
            }
            let (length, after) = read_integer(&bytes, at + 1);
            at = after + length;
        }
        Self { bytes, modules, components }
    }

    /// Adds a core module, given as text, and so many instances of it.
    pub(crate) fn module(self, text: &str, instances: u32) -> Self {
        self.binary_module(&wat::parse_str(text).unwrap(), instances)
    }

    pub(crate) fn binary_module(mut self, module: &[u8], instances: u32) -> Self {
        self.section(CORE_MODULE, module);
        // Each: made of a module, which one, without arguments.
        let instance = [&[0][..], &integer(self.modules), &[0]].concat();
        self.section(CORE_INSTANCE, &[integer(instances), instance.repeat(instances as usize)].concat());
        self.modules += 1;
        self
    }

    /// Adds a component, and an instance of it.
    pub(crate) fn component(mut self, component: &[u8]) -> Self {
        self.section(COMPONENT, component);
        self.section(INSTANCE, &[&[1, 0][..], &integer(self.components), &[0]].concat());
        self.components += 1;
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn section(&mut self, kind: u8, content: &[u8]) {
        self.bytes.extend(section(kind, content));
    }
}

/// A component in a component in a component.
pub(crate) fn nested(depth: usize) -> Vec<u8> {
    let mut component = HEADER.to_vec();
    for _ in 0..depth {
        component = [HEADER, &section(COMPONENT, &component)].concat();
    }
    component
}

/// A component that has two instances of one that has two instances of one …: twice as many with each level.
pub(crate) fn doubling(levels: usize) -> Vec<u8> {
    let mut component = HEADER.to_vec();
    for _ in 0..levels {
        let two = [2, 0, 0, 0, 0, 0, 0];
        component = [HEADER, &section(COMPONENT, &component), &section(INSTANCE, &two)].concat();
    }
    component
}

fn section(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind][..], &integer(u32::try_from(content.len()).unwrap()), content].concat()
}

/// LEB128.
fn integer(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

fn read_integer(bytes: &[u8], mut at: usize) -> (usize, usize) {
    let (mut value, mut shift) = (0, 0);
    loop {
        value |= usize::from(bytes[at] & 0x7f) << shift;
        at += 1;
        if bytes[at - 1] & 0x80 == 0 {
            return (value, at);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_they_are_written() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u32::MAX] {
            let bytes = integer(value);
            assert_eq!(read_integer(&bytes, 0), (value as usize, bytes.len()));
        }
    }
}
