;; A function that answers with what it was sent. Make a module of it with `wat2wasm echo.wat` (wabt) or
;; `wasm-tools parse echo.wat -o echo.wasm`, then `nex devrun ./echo.wasm --trigger-subject echo`.
(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $read (param $fd i32) (param $parts i32) (param $count i32) (param $told i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param $fd i32) (param $parts i32) (param $count i32) (param $told i32) (result i32)))

  ;; 0: where the bytes are, 4: how many, 8: how many it were, 16: the bytes
  (memory (export "memory") 2)

  (func (export "_start")
    (loop $more
      (i32.store (i32.const 0) (i32.const 16))
      (i32.store (i32.const 4) (i32.const 65536))
      (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
        (then unreachable))
      (if (i32.load (i32.const 8))
        (then
          (i32.store (i32.const 4) (i32.load (i32.const 8)))
          (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
            (then unreachable))
          (br $more))))))
