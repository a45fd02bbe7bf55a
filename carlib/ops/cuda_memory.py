"""How the CUDA kernels reach memory, which they know by its address: loads and stores that numba does not make itself.

For numba's simulator the same functions work on flat NumPy arrays.
"""

import operator
import threading

from numba import cuda, float32, int64

LANES = 4  # channels of a pixel, laid side by side


def compiled(real):
    """Functions for kernels, in the order below; their arrays are addresses of numbers of the type `real`.

    constant(array, at): a number that nobody writes to while the kernel runs and that is needed once: it takes no place
    in the first-level cache, which is the image's. read(array, at): any other. two_pixels(array, at): 2 * LANES numbers
    from number at * LANES on, in loads of vectors, which numba does not make; constant, too.
    write(array, at, value), add(array, at, value): the latter atomic. write_pixel(array, at, lanes).
    shifted(array, count): the array from number `count` on.
    """
    from llvmlite import ir
    from numba.core import types
    from numba.cuda.extending import intrinsic

    size, whole = real.bitwidth // 8, ir.IntType(64)
    number = ir.FloatType() if real == float32 else ir.DoubleType()
    vector = ir.VectorType(number, LANES)

    def place(builder, kind, array, at):
        return builder.gep(builder.inttoptr(array, kind.as_pointer(addrspace=1)), [at])

    def lane(index):
        return ir.Constant(ir.IntType(32), index)

    @intrinsic
    def constant(typing, array, at):
        def codegen(context, builder, signature, args):
            address = builder.ptrtoint(place(builder, number, *args), whole)
            name, kind = ("f32", "=f,l") if real == float32 else ("f64", "=d,l")
            load = f"ld.global.nc.L1::no_allocate.{name} $0, [$1];"
            return builder.call(ir.InlineAsm(ir.FunctionType(number, [whole]), load, kind), [address])

        return real(types.int64, types.uint64), codegen

    @intrinsic
    def read(typing, array, at):
        def codegen(context, builder, signature, args):
            return builder.load(place(builder, number, *args), align=size)

        return real(types.int64, types.uint64), codegen

    @intrinsic
    def write(typing, array, at, value):
        def codegen(context, builder, signature, args):
            array, at, value = args
            builder.store(value, place(builder, value.type, array, at), align=signature.args[2].bitwidth // 8)
            return context.get_dummy_value()

        return types.void(types.int64, types.uint64, value), codegen

    @intrinsic
    def add(typing, array, at, value):
        def codegen(context, builder, signature, args):
            array, at, value = args
            builder.atomic_rmw("add", place(builder, value.type, array, at), value, "monotonic")
            return context.get_dummy_value()

        return types.void(types.int64, types.uint64, types.int64), codegen

    @intrinsic
    def two_pixels(typing, array, at):
        def codegen(context, builder, signature, args):
            array, at = args
            first = place(builder, vector, array, builder.sext(at, whole))
            lanes = []
            for address in (first, builder.gep(first, [ir.Constant(whole, 1)])):
                loaded = builder.load(address, align=LANES * size)
                loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
                lanes += [builder.extract_element(loaded, lane(index)) for index in range(LANES)]
            return context.make_tuple(builder, signature.return_type, lanes)

        return types.UniTuple(real, 2 * LANES)(types.int64, types.int32), codegen

    @intrinsic
    def write_pixel(typing, array, at, lanes):
        def codegen(context, builder, signature, args):
            array, at, lanes = args
            together = ir.Constant(vector, ir.Undefined)
            for index in range(LANES):
                together = builder.insert_element(together, builder.extract_value(lanes, index), lane(index))
            builder.store(together, place(builder, vector, array, at), align=LANES * size)
            return context.get_dummy_value()

        return types.void(types.int64, types.uint64, types.UniTuple(real, LANES)), codegen

    @cuda.jit(device=True)
    def shifted(array, count):
        return array + int64(count * size)

    return constant, read, write, add, two_pixels, write_pixel, shifted


def simulated():
    """The same for the simulator, whose arrays are numpy's, flat."""
    alone = threading.Lock()

    def add(array, at, value):
        with alone:
            array[at] += value

    def write_pixel(array, at, lanes):
        array[at * LANES : (at + 1) * LANES] = lanes

    def two_pixels(array, at):
        assert at >= 0 and (at + 2) * LANES <= len(array)  # NumPy would take others for places from the end
        return tuple(array[at * LANES : (at + 2) * LANES])

    def shifted(array, count):
        return array[count:]

    return operator.getitem, operator.getitem, operator.setitem, add, two_pixels, write_pixel, shifted
