//! Clocks, and waiting for them.

use std::{
    sync::LazyLock,
    thread,
    time::{Duration, Instant, SystemTime},
};

use wasmtime::{Caller, Linker};

use super::{
    Errno, MODULE, Stop,
    memory::{View, after},
    serve, stream,
};
use crate::{guest::Guest, limits::Ended};

/// What the monotonic clock counts from.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The most things that one wait may wait for.
const MAX_SUBSCRIPTIONS: i32 = 1024;
/// Sizes in memory.
const SUBSCRIPTION_BYTES: usize = 48;
const EVENT_BYTES: usize = 32;
/// The flag of a clock whose timeout is a point in time.
const ABSOLUTE: u16 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    Realtime,
    Monotonic,
}

impl Clock {
    fn of(id: u32) -> Result<Self, Errno> {
        match id {
            0 => Ok(Self::Realtime),
            1 => Ok(Self::Monotonic),
            // Those of a process and a thread: guests have none of their own.
            2 | 3 => Err(Errno::NOTSUP),
            _ => Err(Errno::INVAL),
        }
    }

    /// In nanoseconds.
    fn now(self) -> u64 {
        let time = match self {
            Self::Realtime => SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default(),
            Self::Monotonic => BEGIN.elapsed(),
        };
        // Go takes a clock that is at zero for a broken one.
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}

pub(super) fn add_to(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type Guested<'a> = Caller<'a, Guest>;
    linker
        .func_wrap(
            MODULE,
            "clock_res_get",
            |mut caller: Guested<'_>, id: i32, at: i32| {
                serve(&mut caller, |memory, _guest| {
                    Clock::of(id.cast_unsigned())?;
                    Ok(memory.put_u64(at, 1)?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "clock_time_get",
            |mut caller: Guested<'_>, id: i32, _precision: i64, at: i32| {
                serve(&mut caller, |memory, _guest| {
                    let clock = Clock::of(id.cast_unsigned())?;
                    Ok(memory.put_u64(at, clock.now())?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "poll_oneoff",
            |mut caller: Guested<'_>, from: i32, to: i32, count: i32, told: i32| {
                serve(&mut caller, |memory, guest| {
                    let events = poll(memory, guest, from, to, count)?;
                    Ok(memory.put_size(told, events)?)
                })
            },
        )?;
    Ok(())
}

/// One thing that a guest waits for.
#[derive(Clone, Copy, Debug)]
struct Subscription {
    userdata: u64,
    /// As the guest said it: a clock, reading, writing.
    kind: u8,
    /// How long from now; nothing for what is ready.
    wait: Result<Duration, Errno>,
}

/// Waits until the first of the subscriptions is due; writes an event for each that is then.
fn poll(
    memory: &mut View<'_>,
    guest: &Guest,
    from: i32,
    to: i32,
    count: i32,
) -> Result<usize, Stop> {
    if !(1..=MAX_SUBSCRIPTIONS).contains(&count) {
        return Err(Errno::INVAL.into());
    }
    let mut subscriptions = Vec::new();
    for number in 0..count {
        let at = after(
            from,
            usize::try_from(number).unwrap_or_default() * SUBSCRIPTION_BYTES,
        )?;
        subscriptions.push(subscription(memory, guest, at)?);
    }
    let wait_of = |one: &Subscription| one.wait.unwrap_or_default();
    let wait = subscriptions.iter().map(wait_of).min().unwrap_or_default();
    sleep(wait, guest.deadline)?;
    let mut events = 0;
    for one in subscriptions.iter().filter(|one| wait_of(one) <= wait) {
        let mut event = [0; EVENT_BYTES];
        event[..8].copy_from_slice(&one.userdata.to_le_bytes());
        let errno = one.wait.err().map_or(0, |errno| errno.0);
        event[8..10].copy_from_slice(&errno.to_le_bytes()[..2]);
        event[10] = one.kind;
        memory.put(after(to, events * EVENT_BYTES)?, &event)?;
        events += 1;
    }
    Ok(events)
}

fn subscription(memory: &View<'_>, guest: &Guest, at: i32) -> Result<Subscription, Errno> {
    let [kind] = memory.array(after(at, 8)?)?;
    let wait = match kind {
        0 => clock_wait(memory, at)?,
        // What there is to read is there, and there is always room to write.
        1 | 2 => {
            let fd = memory.u32(after(at, 16)?)?.cast_signed();
            stream(guest, fd).map(|_| Duration::ZERO)
        }
        _ => return Err(Errno::INVAL),
    };
    Ok(Subscription {
        userdata: memory.u64(at)?,
        kind,
        wait,
    })
}

fn clock_wait(memory: &View<'_>, at: i32) -> Result<Result<Duration, Errno>, Errno> {
    let id = memory.u32(after(at, 16)?)?;
    let timeout = memory.u64(after(at, 24)?)?;
    let flags = memory.u16(after(at, 40)?)?;
    let wait = |clock: Clock| match flags & ABSOLUTE {
        0 => timeout,
        _ => timeout.saturating_sub(clock.now()),
    };
    Ok(Clock::of(id).map(|clock| Duration::from_nanos(wait(clock))))
}

/// Sleeps, but not beyond the deadline.
#[expect(
    clippy::disallowed_methods,
    reason = "a guest that waits holds its engine thread, as one that computes does"
)]
fn sleep(wait: Duration, deadline: Instant) -> Result<(), Ended> {
    let left = deadline.saturating_duration_since(Instant::now());
    thread::sleep(wait.min(left));
    if wait >= left {
        return Err(Ended::Deadline);
    }
    Ok(())
}
