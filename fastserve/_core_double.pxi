# double -> the shortest text that reads back as it, of several the closest: what Python's repr gives, at a fortieth of its cost.
#
# After R. Giulietti, "The Schubfach way to render doubles". A double c * 2^q stands for all numbers between its neighbours'
# halves; multiplied by a power of ten, known to 128 bits, that interval holds one or two candidates of the fewest digits.
#
#   POWERS    10^k for k from -292 to 324, rounded up to 128 bits of which the first is set: high half, low half

cdef extern from *:
    """
    typedef unsigned __int128 fs_uint128;
    """
    ctypedef unsigned long long fs_uint128

cdef enum:
    FIRST_POWER = -292, LAST_POWER = 324

cdef uint64_t[(LAST_POWER - FIRST_POWER + 1) * 2] POWERS
cdef bint powers_known = False


cdef object power_of_ten(object k):
    """Return 10^k times that power of two which makes it a number of 128 bits, rounded up."""
    ten = pow(10, abs(k))
    above = ten << 128 if k >= 0 else 1 << 127 + 2 * ten.bit_length()
    below = 1 << ten.bit_length() if k >= 0 else ten << ten.bit_length()
    return -(-above // below)


cdef int know_powers() except -1:
    """Fill the table: when the first double comes, since it takes half a millisecond."""
    global powers_known
    cdef int i
    for i in range(LAST_POWER - FIRST_POWER + 1):
        scaled = power_of_ten(i + FIRST_POWER)
        POWERS[i * 2] = scaled >> 64
        POWERS[i * 2 + 1] = scaled & 0xFFFFFFFFFFFFFFFF
    powers_known = True
    return 0


cdef inline uint64_t times_power(const uint64_t* power, uint64_t n) noexcept:
    """Multiply by a power of ten; what is cut off is told by the last bit ("round to odd")."""
    cdef fs_uint128 low = <fs_uint128>power[1] * n
    cdef fs_uint128 high = <fs_uint128>power[0] * n + <uint64_t>(low >> 64)
    return <uint64_t>(high >> 64) | (<uint64_t>high > 1)


cdef uint64_t shortest_digits(uint64_t bits, int* exponent) noexcept:
    """Return digits, as a number, and the power of ten they are to be multiplied by, for a finite double above 0."""
    cdef uint64_t fraction = bits & ((<uint64_t>1 << 52) - 1)
    cdef int biased = <int>(bits >> 52 & 0x7FF)
    cdef uint64_t c = fraction | <uint64_t>1 << 52 if biased else fraction
    cdef int q = (biased if biased else 1) - 1075
    cdef bint is_even = c % 2 == 0, is_closer_below = fraction == 0 and biased > 1
    if -52 <= q <= 0 and c & ((<uint64_t>1 << -q) - 1) == 0:
        exponent[0] = 0
        return c >> -q    # a whole number
    # Logarithms: of 2 to the base 10 in 2^-22, of 10 to the base 2 in 2^-19; rounded down.
    cdef int k = (q * 1262611 - (524031 if is_closer_below else 0)) >> 22
    cdef int h = q + (-k * 1741647 >> 19) + 1
    cdef const uint64_t* power = &POWERS[(-k - FIRST_POWER) * 2]
    cdef uint64_t lower = times_power(power, (4 * c - 2 + is_closer_below) << h) + (not is_even)
    cdef uint64_t value = times_power(power, 4 * c << h)
    cdef uint64_t upper = times_power(power, (4 * c + 2) << h) - (not is_even)
    cdef uint64_t s = value >> 2, tens = s // 10
    cdef bint is_low_in = lower <= 40 * tens, is_high_in = 40 * tens + 40 <= upper
    if s >= 10 and is_low_in != is_high_in:
        exponent[0] = k + 1
        return tens + is_high_in
    exponent[0] = k
    is_low_in, is_high_in = lower <= 4 * s, 4 * s + 4 <= upper
    if is_low_in != is_high_in:
        return s + is_high_in
    return s + (value > 4 * s + 2 or (value == 4 * s + 2 and s % 2 == 1))


cdef int put_double(Sink out, double value) except -1:
    """Append a finite double as `repr` does: 0.1, 20.0, 1e+300."""
    cdef uint64_t bits, digits
    cdef int exponent = 0, n = 0, point, i
    cdef char[24] text
    if not powers_known:
        know_powers()
    memcpy(&bits, &value, 8)
    if bits >> 63:
        out.put_byte(c'-')
        bits &= ~(<uint64_t>1 << 63)
    if bits == 0:
        return out.put(b"0.0", 3)
    digits = shortest_digits(bits, &exponent)
    while digits % 10 == 0:
        digits //= 10
        exponent += 1
    while digits:
        n += 1
        text[24 - n] = c'0' + <char>(digits % 10)
        digits //= 10
    return put_placed(out, text + 24 - n, n, n + exponent)


cdef int put_placed(Sink out, const char* digits, int n, int point) except -1:
    """Append digits with a decimal point behind the first `point` of them, or with an exponent where that is long."""
    cdef int i
    if not -4 < point <= 16:
        out.put_byte(digits[0])
        if n > 1:
            out.put_byte(c'.')
            out.put(digits + 1, n - 1)
        out.put(b"e-" if point < 1 else b"e+", 2)
        return out.put_digits(abs(point - 1), 2 if abs(point - 1) < 100 else 3)
    if point <= 0:
        out.put(b"0.000", 2 - point)
        return out.put(digits, n)
    out.put(digits, min(n, point))
    for i in range(n, point):
        out.put_byte(c'0')
    out.put_byte(c'.')
    return out.put(digits + point, n - point) if n > point else out.put_byte(c'0')
