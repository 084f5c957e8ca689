//! wasmtime with as little as possible around it: a fresh instance for each call, and only what the guest
//! imports.

use std::{thread, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use wasmtime::{
    Caller, Config, Enabled, Engine, Extern, InstanceAllocationStrategy, InstancePre, Linker,
    Module, PoolingAllocationConfig, Store,
};

use super::{load::PAYLOAD, process::own_cpu};

/// The processor time of one call, over so many one after the other.
pub(super) fn measure(wasm: &[u8], calls: u32) -> anyhow::Result<Duration> {
    let guest = Guest::new(wasm)?;
    let payload = Bytes::from_static(PAYLOAD);
    // As deep a stack as an engine thread has.
    let thread = thread::Builder::new().stack_size(2 * 1024 * 1024);
    let measuring = thread.spawn(move || {
        for _ in 0..calls / 10 {
            guest.call(&payload)?;
        }
        let before = own_cpu()?;
        for _ in 0..calls {
            let result = guest.call(&payload)?;
            anyhow::ensure!(result == PAYLOAD, "the guest is no echo");
        }
        Ok((own_cpu()? - before) / calls)
    })?;
    measuring
        .join()
        .map_err(|_panic| anyhow::anyhow!("the guest's thread panicked"))?
}

/// A guest that is compiled and linked.
pub(super) struct Guest(InstancePre<Streams>);

/// The streams of one call.
struct Streams {
    stdin: Bytes,
    stdout: Vec<u8>,
}

impl Guest {
    pub(super) fn new(wasm: &[u8]) -> anyhow::Result<Self> {
        prepare(wasm).map(Self)
    }

    /// What the guest makes of this.
    pub(super) fn call(&self, payload: &Bytes) -> anyhow::Result<Vec<u8>> {
        let streams = Streams {
            stdin: payload.clone(),
            stdout: Vec::new(),
        };
        let mut store = Store::new(self.0.module().engine(), streams);
        let instance = self.0.instantiate(&mut store).map_err(told)?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start");
        start.map_err(told)?.call(&mut store, ()).map_err(told)?;
        Ok(store.into_data().stdout)
    }
}

fn prepare(wasm: &[u8]) -> anyhow::Result<InstancePre<Streams>> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(1)
        .total_memories(1)
        .total_tables(1)
        .linear_memory_keep_resident(128 * 1024)
        .pagemap_scan(Enabled::Auto)
        .table_keep_resident(16 * 1024);
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config).map_err(told)?;
    let module = Module::new(&engine, wasm).map_err(told)?;
    let mut linker = Linker::new(&engine);
    let name = "wasi_snapshot_preview1";
    linker.func_wrap(name, "fd_read", read).map_err(told)?;
    linker.func_wrap(name, "fd_write", write).map_err(told)?;
    linker.instantiate_pre(&module).map_err(told)
}

fn told(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

fn read(mut caller: Caller<'_, Streams>, _fd: i32, part: i32, _count: i32, told: i32) -> i32 {
    with_part(&mut caller, part, told, |streams, bytes| {
        let count = bytes.len().min(streams.stdin.len());
        bytes[..count].copy_from_slice(&streams.stdin.split_to(count));
        count
    })
    .map_or(1, |()| 0)
}

fn write(mut caller: Caller<'_, Streams>, _fd: i32, part: i32, _count: i32, told: i32) -> i32 {
    with_part(&mut caller, part, told, |streams, bytes| {
        streams.stdout.extend_from_slice(bytes);
        bytes.len()
    })
    .map_or(1, |()| 0)
}

/// Does something with the bytes that a guest describes, and tells it how many they were.
fn with_part(
    caller: &mut Caller<'_, Streams>,
    part: i32,
    told: i32,
    work: impl FnOnce(&mut Streams, &mut [u8]) -> usize,
) -> anyhow::Result<()> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    let memory = memory.context("a guest without memory")?;
    let (bytes, streams) = memory.data_and_store_mut(caller);
    let word = |bytes: &[u8], at: usize| {
        let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
        word.map(|word| u32::from_le_bytes(*word) as usize)
    };
    let part = usize::try_from(part)?;
    let (at, len) = (word(bytes, part), word(bytes, part + 4));
    let (at, len) = (at.context("no address")?, len.context("no length")?);
    let count = work(
        streams,
        bytes.get_mut(at..at + len).context("out of bounds")?,
    );
    let told = bytes
        .get_mut(usize::try_from(told)?..)
        .context("out of bounds")?;
    let told = told.first_chunk_mut().context("out of bounds")?;
    *told = u32::try_from(count)?.to_le_bytes();
    Ok(())
}
