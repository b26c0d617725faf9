#include "textflag.h"

// func prefetch(later *Row, data *byte, ends, values, identity int)
TEXT ·prefetch(SB), NOSPLIT, $0-40
	MOVD later+0(FP), R0
	MOVD data+8(FP), R1
	MOVD ends+16(FP), R2
	MOVD values+24(FP), R3
	MOVD identity+32(FP), R4
	ADD  R1, R2, R2
	ADD  R1, R3, R3
	ADD  R1, R4, R4
	PRFM (R0), PLDL1KEEP
	PRFM (R2), PLDL1KEEP
	PRFM (R3), PLDL1KEEP
	PRFM (R4), PLDL1KEEP
	PRFM 64(R4), PLDL1KEEP
	RET

// func prefetchShape(later *shape, parts *part, offset int)
TEXT ·prefetchShape(SB), NOSPLIT, $0-24
	MOVD later+0(FP), R0
	MOVD parts+8(FP), R1
	MOVD offset+16(FP), R2
	ADD  R2, R1, R1
	PRFM (R0), PLDL1KEEP
	PRFM (R1), PLDL1KEEP
	RET
