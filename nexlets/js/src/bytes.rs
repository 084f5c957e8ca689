//! Bytes out of buffers of JavaScript. The only module here with `unsafe`: the library hands out
//! the memory of a buffer as a raw pointer or an unsafe slice, since JavaScript that runs
//! meanwhile may free it.
#![expect(
    unsafe_code,
    reason = "the library's own interface to a buffer's memory is unsafe"
)]

use bytes::Bytes;
use rquickjs::{ArrayBuffer, Object, U8Clamped};

/// A copy of the bytes of a typed array of any kind; `None` where it is none, or is detached.
pub(crate) fn of_typed_array(object: &Object<'_>) -> Option<Bytes> {
    // The library does not export the trait of these types, so they cannot be a parameter.
    macro_rules! first_of {
        ($($item:ty),*) => {
            $(
                if let Some(array) = object.as_typed_array::<$item>() {
                    // SAFETY: the bytes are copied at once; no JavaScript runs meanwhile.
                    let bytes = unsafe { array.as_bytes() }?;
                    return Some(Bytes::copy_from_slice(bytes));
                }
            )*
        };
    }
    first_of!(u8, U8Clamped, i8, u16, i16, u32, i32, f32, f64, u64, i64);
    None
}

/// A copy of the bytes of an `ArrayBuffer`; `None` where it is detached.
pub(crate) fn of_array_buffer(buffer: &ArrayBuffer<'_>) -> Option<Bytes> {
    // SAFETY: the bytes are copied at once; no JavaScript runs meanwhile.
    let bytes = unsafe { buffer.as_bytes() }?;
    Some(Bytes::copy_from_slice(bytes))
}
