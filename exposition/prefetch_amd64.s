#include "textflag.h"

// func prefetch(later *Row, data *byte, ends, values, identity int)
TEXT ·prefetch(SB), NOSPLIT, $0-40
	MOVQ later+0(FP), AX
	MOVQ data+8(FP), BX
	MOVQ ends+16(FP), CX
	MOVQ values+24(FP), DX
	MOVQ identity+32(FP), SI
	PREFETCHT0 (AX)
	PREFETCHT0 (BX)(CX*1)
	PREFETCHT0 (BX)(DX*1)
	PREFETCHT0 (BX)(SI*1)
	PREFETCHT0 64(BX)(SI*1)
	RET

// func prefetchShape(later *shape, parts *part, offset int)
TEXT ·prefetchShape(SB), NOSPLIT, $0-24
	MOVQ later+0(FP), AX
	MOVQ parts+8(FP), BX
	MOVQ offset+16(FP), CX
	PREFETCHT0 (AX)
	PREFETCHT0 (BX)(CX*1)
	RET
