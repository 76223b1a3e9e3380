"""No approved digest, no process: verify an order in full, then become vLLM.

keeper      one per slot: follows order.json, starts and stops the engine, writes report.json
__main__    what the keeper starts: enters its cell, verifies, and is replaced by vLLM
verify      the question: do these signatures cover exactly these files, this engine, these arguments
arguments   which arguments and which environment vLLM may be given at all
"""
